from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend import launch
from backend.errors import UserError
from backend.rundir import Owner, RunDir, Status
from backend.spec import parse_job

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = 100_000  # steps: more than any test waits for

NewRun = Callable[..., RunDir]


@pytest.fixture
def new_run(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> Iterator[NewRun]:
    """Make a run of the tiny model; what is still at work after the test is ended."""
    made: list[RunDir] = []

    def make(steps: int = 4, **changes: Any) -> RunDir:
        job = {
            "model": str(tiny_model),
            "data": {"train": str(tiny_data)},
            "task": {"max_length": 32},
            "schedule": {"steps": steps, "batch_size": 8, "evaluate_every": 50},
            "precision": "fp32",
            **changes,
        }
        made.append(RunDir.create(tmp_path / "runs", parse_job(job)))
        return made[-1]

    yield make
    for run in made:
        status = run.status()
        if not status.ended and status.owner != Owner.me():
            run.request_stop(-1)
            wait(run, lambda status: status.ended)


def wait(run: RunDir, reached: Callable[[Status], bool], seconds: float = 120) -> Status:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = run.status()
        if reached(status):
            return status
        assert not status.ended, f"{status.state}: {status.message}\n{run.log_tail()}"
        time.sleep(0.1)
    pytest.fail(f"still {run.status()} after {seconds} s\n{run.log_tail()}")


def ended(run: RunDir) -> Status:
    return wait(run, lambda status: status.ended)


def training(run: RunDir) -> Status:
    return wait(run, lambda status: status.state == "training" and status.step > 2)


def children(run: RunDir) -> list[psutil.Process]:
    """Return the processes that train a run."""
    name = str(run.job_file)
    return [process for process in psutil.process_iter() if name in _command_line(process)]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_run_outlives_the_process_that_started_it_and_finishes(new_run: NewRun) -> None:
    run = new_run()
    run.write_status(Status(state="stopped", owner=Owner.me()))
    code = "import sys; from pathlib import Path; from backend import launch; from backend.rundir import RunDir\n"
    code += "launch.start(RunDir.open(Path(sys.argv[1])))"
    subprocess.run([sys.executable, "-c", code, run.path], cwd=ROOT, check=True)
    status = ended(run)
    assert (status.state, status.step, status.total_steps, status.message) == ("finished", 4, 4, "")
    assert (run.model / "model.safetensors").is_file()
    assert run.report() is not None
    assert [record["step"] for record in run.metrics() if record["kind"] == "train"] == [1, 2, 3, 4]
    with pytest.raises(UserError, match=r"has finished; to train further, start a new run from a copy of its job.json"):
        launch.start(run)
    assert run.status() == status


def test_a_run_that_is_stopped_keeps_a_checkpoint_and_is_finished_later(new_run: NewRun) -> None:
    run = new_run(steps=300, schedule={"steps": 300, "batch_size": 8, "evaluate_every": 300})
    launch.start(run)
    training(run)
    launch.stop(run)
    status = ended(run)
    assert (status.state, status.message) == ("stopped", "stopped on request")
    assert 0 < status.step < 300
    assert [path.name for path in run.checkpoints.iterdir()] == [f"step-{status.step:08d}"]
    launch.start(run, resume=True)  # though the processes of the first session may still be ending
    assert ended(run).state == "finished"
    steps = [record["step"] for record in run.metrics() if record["kind"] == "train"]
    assert steps == list(range(1, 301))


def test_a_training_process_that_is_killed_ends_the_run_as_failed(new_run: NewRun) -> None:
    run = new_run(ENDLESS)
    launch.start(run)
    training(run)
    (process,) = children(run)
    process.send_signal(signal.SIGKILL)
    status = ended(run)
    assert status.state == "failed"
    assert "was killed by signal 9; was it out of memory?" in status.message


def test_a_rank_that_is_killed_takes_the_others_and_the_launcher_with_it(new_run: NewRun) -> None:
    run = new_run(ENDLESS)
    launch.start(run, ranks=2)
    assert training(run).ranks == 2
    ranks = [process for process in children(run) if process.environ().get("RANK") == "1"]
    ranks[0].send_signal(signal.SIGKILL)
    status = ended(run)
    assert status.state == "failed"
    assert status.message
    assert status.supervisor is not None
    end = time.monotonic() + 60
    while not status.supervisor.is_gone() and time.monotonic() < end:
        time.sleep(0.1)
    assert not children(run)


def test_a_run_at_work_is_not_started_again_and_its_end_takes_all_processes(new_run: NewRun) -> None:
    run = new_run(ENDLESS)
    launch.start(run)
    training(run)
    with pytest.raises(UserError, match=r"is (training|evaluating|saving) already, by process \d+ on "):
        launch.start(run)
    (process,) = children(run)
    assert os.getpgid(process.pid) not in (os.getpgid(0), process.ppid())  # no Ctrl-C of ours reaches it
    process.suspend()  # it cannot hear that it is to stop
    launch.stop(run, seconds=0)
    status = ended(run)
    assert (status.state, status.message) == ("stopped", "stopped by force; its last checkpoint is whole")
    assert not children(run)


def test_faults_of_the_data_reach_the_status_in_full(new_run: NewRun, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    rows = ["good film,good", "bad film,bad"] * 30
    file.write_text("\n".join(["text,label", *rows, ",good", "film,"]) + "\n", encoding="utf-8")
    run = new_run(data={"train": str(file)})
    launch.start(run)
    status = ended(run)
    assert status.state == "failed"
    assert status.message.startswith("the data has faults:\n")
    assert f'{file.name}, row 61 (line 62), column "text": is empty; give it a text or remove the row' in status.message
    assert 'row 62 (line 63), column "label": is empty; give it one of bad, good' in status.message
    assert "Traceback" not in run.log_tail()


@pytest.mark.parametrize(
    ("ranks", "changes", "message"),
    [
        (0, {}, "the number of processes is 0; it must be 1 or more"),
        (3, {}, "schedule.batch_size 8 cannot be shared by 3 processes"),
        (2, {"deepspeed": "zero9"}, 'deepspeed "zero9": there is no such file'),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_started(
    new_run: NewRun, ranks: int, changes: dict[str, Any], message: str
) -> None:
    run = new_run(**changes)
    with pytest.raises(UserError, match=message):
        launch.start(run, ranks)
    assert run.status().state == "queued"
    assert not run.launcher_log_file.exists()


def test_the_command_of_one_process_is_plain_python_and_that_of_several_the_launcher(new_run: NewRun) -> None:
    run = new_run()
    alone = launch.command(run, 1, resume=True)
    assert alone == [sys.executable, str(launch.TRAIN), "--job", str(run.job_file), "--resume"]
    several = launch.command(run, 2)
    assert several[:5] == [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2"]
    assert several[-3:] == alone[1:4]


def test_one_process_that_keeps_state_elsewhere_gets_the_launcher_too(new_run: NewRun) -> None:
    run = new_run(deepspeed="zero2_offload")
    assert launch.command(run, 1)[:5] == [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "1"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_process_that_keeps_state_elsewhere_is_trained_by_deepspeed(new_run: NewRun) -> None:
    run = new_run(deepspeed="zero2_offload")
    launch.start(run)
    wait(run, lambda status: status.ended, seconds=800)  # it compiles DeepSpeed's Adam
    assert (run.status().state, run.status().step) == ("finished", 4)
    assert json.loads(run.ds_config_file.read_text())["zero_optimization"]["offload_optimizer"]["device"] == "cpu"


def test_more_processes_than_gpus_are_refused(new_run: NewRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("0000:00:06.0", "0000:00:07.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    monkeypatch.setattr(launch, "GPUS", tmp_path / "gpus")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError, match=r"4 processes on this machine, which has 2 GPUs; .* start at most 2 here"):
        launch.start(new_run(), 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert launch.gpus() == 1
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert launch.gpus() == 0


def test_at_least_one_process_is_suggested() -> None:
    assert launch.suggested_ranks() >= 1
