"""Checkpoints that are written while training goes on are whole or not there, and what goes wrong is told."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from backend.background import Background
from backend.checkpoints import Checkpoints, Progress
from backend.distributed import Group, OneProcess
from backend.errors import UserError
from backend.rundir import RunDir

T = TypeVar("T")
SECONDS = 20


class InThreads(OneProcess):
    """One of several ranks that are threads of this process."""

    def __init__(self, rank: int, values: list[object], barrier: threading.Barrier) -> None:
        self.rank, self.ranks = rank, len(values)
        self._values, self._barrier = values, barrier

    def barrier(self) -> None:
        self._barrier.wait(SECONDS)

    def gather(self, value: T) -> list[T]:
        self._values[self.rank] = value
        self.barrier()
        found = list(self._values) if self.rank == 0 else []
        self.barrier()
        return found  # type: ignore[return-value]

    def broadcast(self, value: T) -> T:
        if self.rank == 0:
            self._values[0] = value
        self.barrier()
        found = self._values[0]
        self.barrier()
        return found  # type: ignore[return-value]


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Give the event that a writing waits for; it comes at the latest when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def background(folder: Path, group: Group | None = None) -> Background:
    group = group or OneProcess()
    return Background(Checkpoints(folder, group), group, keep_last=1)


def saving(text: str, until: threading.Event | None = None, rank: int = 0) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        (folder / f"weights-{rank}").write_text(text, encoding="utf-8")
        assert until is None or until.wait(SECONDS)

    return save


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_training_goes_on_meanwhile_and_the_name_comes_when_all_is_written(
    tmp_path: Path, release: threading.Event
) -> None:
    writes = background(tmp_path)
    writes.write(Progress(step=1), saving("one", release))
    assert names(tmp_path) == ["step-00000001.partial"]
    assert Checkpoints(tmp_path, OneProcess()).latest(print) is None
    release.set()
    writes.settle()
    assert names(tmp_path) == ["step-00000001"]
    assert Checkpoints(tmp_path, OneProcess()).latest(print) is not None
    assert names(tmp_path / "step-00000001") == ["complete.json", "weights-0"]


def test_it_gets_its_name_without_anybody_waiting_for_it(tmp_path: Path) -> None:
    background(tmp_path).write(Progress(step=1), saving("one"))
    end = time.monotonic() + SECONDS
    while names(tmp_path) != ["step-00000001"]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_next_one_waits_and_the_one_before_stays_until_then(tmp_path: Path, release: threading.Event) -> None:
    writes = background(tmp_path)
    writes.write(Progress(step=1, best_step=1), saving("one"))
    writes.write(Progress(step=2, best_step=2), saving("two", release))
    assert names(tmp_path) == ["step-00000001", "step-00000002.partial"]
    release.set()
    writes.settle()
    assert names(tmp_path) == ["step-00000002"]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "are free on its disk"),
        (OSError(errno.EIO, "Input/output error"), RuntimeError, "Input/output error"),
    ],
)
def test_a_failing_disk_is_told_and_leaves_the_checkpoint_before(
    tmp_path: Path, error: OSError, kind: type[Exception], words: str
) -> None:
    def fail(folder: Path) -> None:
        saving("half")(folder)
        raise error

    writes = background(tmp_path)
    writes.write(Progress(step=1), saving("one"))
    writes.write(Progress(step=2), fail)
    with pytest.raises(kind, match=words):
        writes.settle()
    assert names(tmp_path) == ["step-00000001"]
    writes.settle()  # which has nothing left to say


def of_two_ranks(folder: Path, saves: list[Callable[[Path], None]]) -> list[str]:
    """Write a checkpoint with two ranks; return what each is told of it."""
    values: list[object] = [None, None]
    barrier = threading.Barrier(2)

    def work(rank: int) -> str:
        writes = background(folder, InThreads(rank, values, barrier))
        writes.write(Progress(step=1), saves[rank])
        try:
            writes.settle()
        except UserError as error:
            return str(error)
        return "saved"

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, range(2)))


def test_it_is_whole_when_all_ranks_have_written(tmp_path: Path, release: threading.Event) -> None:
    threading.Timer(0.3, release.set).start()
    assert of_two_ranks(tmp_path, [saving("one"), saving("other", release, rank=1)]) == ["saved", "saved"]
    assert names(tmp_path / "step-00000001") == ["complete.json", "weights-0", "weights-1"]
    seal = json.loads((tmp_path / "step-00000001" / "complete.json").read_text(encoding="utf-8"))
    assert (seal["ranks"], set(seal["files"])) == (2, {"weights-0", "weights-1"})


@pytest.mark.parametrize("failing", [0, 1])
def test_all_ranks_hear_of_the_failure_of_one(tmp_path: Path, failing: int) -> None:
    def fail(folder: Path) -> None:
        raise UserError(f"{folder.name}: no")

    saves = [saving(str(rank), rank=rank) if rank != failing else fail for rank in range(2)]
    assert of_two_ranks(tmp_path, saves) == ["step-00000001.partial: no"] * 2
    assert names(tmp_path) == []


def test_a_run_leaves_the_same_files_as_one_that_waits(
    new_tiny_run: Callable[..., RunDir], train_here: Callable[..., None]
) -> None:
    flags = {"schedule.steps": 6, "schedule.evaluate_every": 2, "schedule.keep_last": 3, "tuning.name": "full"}
    waits, goes_on = new_tiny_run(**flags), new_tiny_run(**flags)
    told = json.loads(goes_on.job_file.read_text(encoding="utf-8"))
    told["schedule"]["save_in_background"] = True
    goes_on.job_file.write_text(json.dumps(told), encoding="utf-8")
    for run in (waits, goes_on):
        train_here(run)
    for step in ("step-00000002", "step-00000004", "step-00000006"):
        seals = [(run.checkpoints / step / "complete.json").read_bytes() for run in (waits, goes_on)]
        assert seals[0] == seals[1]  # the digests of all files, and where the loop stood
    assert names(waits.checkpoints) == names(goes_on.checkpoints)
    assert (waits.model / "model.safetensors").read_bytes() == (goes_on.model / "model.safetensors").read_bytes()
