from __future__ import annotations

import socket
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from backend.errors import UserError
from backend.files import write_text
from backend.rundir import Owner, RunDir
from backend.spec import parse_job
from webui.beside import Started
from webui.export_job import ExportJob, zipped


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    """Return the export of a run that has only been queued."""
    run = RunDir.create(tmp_path, parse_job({"model": "m", "data": {"train": "reviews.csv"}}))
    return ExportJob(run, "int8")


def owned_by(job: ExportJob, pid: int, started: float) -> None:
    owner = Owner(host=socket.gethostname(), pid=pid, started=started)
    write_text(job.process_file, Started(owner=owner).model_dump_json())


def test_nothing_was_exported_at_first(job: ExportJob) -> None:
    assert (job.state(), job.log()) == ("none", "")


def test_a_failed_export_is_noticed_and_its_log_says_why(job: ExportJob) -> None:
    job.start(0.01)
    for _ in range(600):
        if job.state() != "running":
            break
        time.sleep(0.1)
    assert job.state() == "failed"
    assert "only a finished run can be exported" in job.log()
    assert ExportJob(job.run, "int8").state() == "failed"


def test_a_second_export_of_the_same_precision_is_refused_while_one_is_at_work(job: ExportJob) -> None:
    me = psutil.Process()
    owned_by(job, me.pid, me.create_time())
    assert job.state() == "running"
    with pytest.raises(UserError, match="its int8 export is at work already"):
        job.start(0.01)


def test_an_older_bundle_does_not_hide_that_a_later_export_failed(job: ExportJob) -> None:
    write_text(job.bundle / "manifest.json", "{}")
    assert job.state() == "finished"
    owned_by(job, 2**22 + 1, time.time() + 60)
    assert job.state() == "failed"


def test_a_bundle_is_packed_with_all_its_files_under_one_folder(job: ExportJob) -> None:
    write_text(job.bundle / "manifest.json", "{}")
    write_text(job.bundle / "model.onnx", "weights")
    with zipfile.ZipFile(zipped(job.bundle)) as archive:
        assert len({Path(name).parent for name in archive.namelist()}) == 1
        assert sorted(Path(name).name for name in archive.namelist()) == ["manifest.json", "model.onnx"]
