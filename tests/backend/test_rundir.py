from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from backend.errors import UserError
from backend.rundir import Owner, RunDir, Status
from backend.spec import JobSpec, parse_job

ROOT = Path(__file__).resolve().parents[2]


def job(name: str = "") -> JobSpec:
    return parse_job({"model": "some/model", "data": {"train": "reviews.csv"}, "name": name})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs", job())


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def owner_of(process: subprocess.Popen[bytes]) -> Owner:
    mine = Owner.me()
    return Owner(host=mine.host, pid=process.pid, started=psutil.Process(process.pid).create_time())


def test_a_new_run_is_queued_and_has_its_job(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, job("Grüße, 2nd try!"))
    assert re.fullmatch(r"\d{8}-\d{6}-gr-e-2nd-try-[0-9a-f]{4}", run.id)
    assert run.job == job("Grüße, 2nd try!")
    assert run.status().state == "queued"
    assert run.status().owner == Owner.me()
    assert {file.name for file in run.path.iterdir()} == {"job.json", "status.json"}
    assert (run.metrics(), run.report(), run.log_tail()) == ([], None, "")


def test_a_run_without_a_name_bears_that_of_its_task(tmp_path: Path) -> None:
    assert "-text-classification-" in RunDir.create(tmp_path, job()).id


def test_a_run_is_found_again_by_its_folder(run: RunDir) -> None:
    assert RunDir.open(run.path).job == run.job


@pytest.mark.parametrize("content", [None, "job.json"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content:  # somebody's job file in somebody's folder does not make it a run
        (tmp_path / content).write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"is not a run directory \(it has no job.json\); `tunewright runs` lists"):
        RunDir.open(tmp_path)
    assert RunDir.all(tmp_path.parent) == []


def test_a_workspace_lists_its_runs_the_newest_first_and_nothing_else(tmp_path: Path) -> None:
    names = ["20260101-000000-a-0000", "20260301-000000-b-0000", "20260201-000000-c-0000"]
    for name in names:
        made = RunDir.create(tmp_path, job())
        made.path.rename(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").touch()
    assert [run.id for run in RunDir.all(tmp_path)] == [names[1], names[2], names[0]]
    assert RunDir.all(tmp_path / "nowhere") == []


def test_a_status_is_replaced_in_one_step_and_leaves_no_other_file(run: RunDir) -> None:
    before = run.status_file.stat().st_ino
    run.write_status(run.status().model_copy(update={"step": 7}))
    assert run.status().step == 7
    assert run.status_file.stat().st_ino != before  # a new file took the name, the old one was not written into
    assert {file.name for file in run.path.iterdir()} == {"job.json", "status.json"}
    assert time.time() - run.status().updated < 60


def test_a_status_that_cannot_be_read_is_named(run: RunDir) -> None:
    run.status_file.write_text('{"state": "dancing"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"status.json: cannot be read"):
        run.status()


def test_a_run_whose_process_is_alive_is_what_it_says(run: RunDir, sleeper: subprocess.Popen[bytes]) -> None:
    run.write_status(Status(state="training", owner=owner_of(sleeper), step=3))
    assert (run.status().state, run.status().step) == ("training", 3)


def test_a_run_whose_process_is_gone_has_failed(run: RunDir, sleeper: subprocess.Popen[bytes]) -> None:
    run.write_status(Status(state="training", owner=owner_of(sleeper), step=3, seconds_left=9.0))
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    status = run.status()
    assert (status.state, status.step, status.seconds_left) == ("failed", 3, None)
    assert status.message == f"process {sleeper.pid} ended without a word (killed, or out of memory); resume the run"
    assert run.stored_status().state == "training"  # reading changes no file


def test_a_later_process_with_the_same_number_is_not_taken_for_the_owner(run: RunDir) -> None:
    other = Owner.me().model_copy(update={"started": Owner.me().started - 3600})
    run.write_status(Status(state="training", owner=other))
    assert run.status().state == "failed"


def test_of_a_process_on_another_host_nothing_is_known(run: RunDir, sleeper: subprocess.Popen[bytes]) -> None:
    owner = owner_of(sleeper).model_copy(update={"host": "another-host"})
    sleeper.kill()
    sleeper.wait()
    run.write_status(Status(state="training", owner=owner))
    assert run.status().state == "training"


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_a_run_that_has_ended_stays_as_it_ended(run: RunDir, state: str) -> None:
    gone = Owner.me().model_copy(update={"started": 0.0})
    run.write_status(Status.model_validate({"state": state, "owner": gone, "message": "why"}))
    assert (run.status().state, run.status().message, run.status().ended) == (state, "why", True)


def test_a_measurement_that_was_cut_off_is_left_out(run: RunDir) -> None:
    for step in (1, 2):
        run.append_metrics({"kind": "train", "step": step, "loss": 0.5})
    with run.metrics_file.open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "st')
    assert [record["step"] for record in run.metrics()] == [1, 2]


def test_a_resumed_run_forgets_what_it_will_measure_again(run: RunDir) -> None:
    for step in (1, 2, 3):
        run.append_metrics({"kind": "train", "step": step})
    with run.metrics_file.open("a", encoding="utf-8") as file:
        file.write('{"kind": "tr')
    run.forget_metrics_after(2)
    run.append_metrics({"kind": "train", "step": 3, "again": True})
    assert [(record["step"], "again" in record) for record in run.metrics()] == [(1, False), (2, False), (3, True)]


def test_forgetting_needs_no_measurements(run: RunDir) -> None:
    run.forget_metrics_after(0)
    assert run.metrics() == []


def test_a_second_writer_is_refused_until_the_first_has_ended(run: RunDir) -> None:
    code = (
        "import sys; from pathlib import Path; from backend.rundir import RunDir\n"
        "with RunDir(Path(sys.argv[1])).writing(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, run.path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        run.write_status(Status(state="training", owner=owner_of(first)))
        with pytest.raises(UserError, match=rf"process {first.pid} on .* is already writing this run; stop it first"):
            run.writing().__enter__()
        first.kill()  # the system gives back what a killed process held
        first.wait()
    with run.writing():
        assert (run.path / ".lock").exists()


def test_files_with_other_names_are_left_alone(run: RunDir) -> None:
    mine = run.path / "my notes.txt"
    mine.write_text("keep me", encoding="utf-8")
    with run.writing():
        run.write_status(run.status())
        run.write_report({"best_step": 1})
        run.forget_metrics_after(0)
    assert mine.read_text(encoding="utf-8") == "keep me"


def test_a_report_is_read_as_it_was_written(run: RunDir) -> None:
    run.write_report({"best_step": 3, "test": None, "labels": ["süß"]})
    assert run.report() == {"best_step": 3, "test": None, "labels": ["süß"]}


def test_the_tail_of_a_log_is_its_last_lines(run: RunDir) -> None:
    lines = [f"line {number} ü" for number in range(10_000)]
    run.log_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run.log_tail(5).splitlines() == lines[-5:]
    run.log_file.write_bytes(b"one\xff\ntwo\n")
    assert run.log_tail().splitlines() == ["one\N{REPLACEMENT CHARACTER}", "two"]


def test_a_stop_is_a_file_that_says_when_patience_ends(run: RunDir) -> None:
    assert not run.stop_requested
    assert not run.stop_overdue
    run.request_stop(100)
    assert run.stop_requested
    assert not run.stop_overdue
    run.request_stop(-1)
    assert run.stop_overdue


def test_a_job_that_was_spoilt_is_named_with_its_file(run: RunDir) -> None:
    run.job_file.write_text('{"model": "m"}', encoding="utf-8")
    with pytest.raises(UserError, match=rf"^{re.escape(str(run.job_file))}: the job is not valid:\n  data: is missing"):
        _ = run.job


def test_this_process_is_the_one_that_the_system_knows() -> None:
    assert Owner.me().pid == os.getpid()
    assert not Owner.me().is_gone()
