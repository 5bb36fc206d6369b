"""A finished run becomes a bundle, or nothing changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from backend.errors import UserError
from backend.rundir import Owner, RunDir, Status
from export.bundle import export_run
from export.manifest import verify


@pytest.fixture
def run(session_run: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(session_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    return RunDir.open(tmp_path / "run")


def left(run: RunDir) -> set[str]:
    return {path.name for path in run.export.iterdir()} - {".lock"}


def test_the_bundle_is_in_the_run_and_nothing_else(run: RunDir) -> None:
    told: list[str] = []
    bundle = export_run(run.path, "int8", max_drop=1.0, report=told.append)
    assert bundle == run.export / "int8"
    assert left(run) == {"int8"}
    assert {path.name for path in bundle.iterdir()} == {
        "manifest.json",
        "model.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert [line.split(" in ")[0] for line in told] == [
        "exported to ONNX",
        "wrote int8",
        "compared with torch on 48 validation, 12 test and 60 training rows",
    ]


def test_a_bundle_that_fails_the_gate_is_not_written_and_an_older_one_stays(
    run: RunDir, bundles: dict[str, Path]
) -> None:
    shutil.copytree(bundles["fp32"], run.export / "fp32")
    before = verify(run.export / "fp32")
    with pytest.raises(UserError, match="no bundle was written"):
        export_run(run.path, "fp32", max_drop=-1.0)
    assert left(run) == {"fp32"}
    assert verify(run.export / "fp32") == before


def test_a_new_bundle_takes_the_place_of_an_older_one_and_of_a_killed_export(run: RunDir) -> None:
    for name in ("fp32", ".fp32.partial", ".fp32.older"):
        (run.export / name).mkdir(parents=True)
        (run.export / name / "stale").write_text("")
    export_run(run.path, "fp32")
    assert left(run) == {"fp32"}
    verify(run.export / "fp32")


def test_an_unfinished_run_is_refused(run: RunDir) -> None:
    run.write_status(Status(state="training", owner=Owner.me()))
    with pytest.raises(UserError, match="the run is training; only a finished run can be exported"):
        export_run(run.path, "fp32")
    assert not run.export.exists()


def test_an_unknown_precision_is_refused_with_the_known_ones(run: RunDir) -> None:
    with pytest.raises(UserError, match='"int2" is no precision of text classification; choose one of fp32, int8'):
        export_run(run.path, "int2")


def test_a_second_export_of_the_run_is_refused(run: RunDir) -> None:
    run.export.mkdir()
    with FileLock(run.export / ".lock"), pytest.raises(UserError, match="another process is exporting"):
        export_run(run.path, "fp32")
