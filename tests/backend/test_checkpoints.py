from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.checkpoints import Checkpoints, Progress
from backend.distributed import OneProcess

Save = Callable[[Path], None]


class CrashError(Exception):
    """The process ends in the middle of a save."""


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", OneProcess())


def saving(text: str) -> Save:
    """Return a save of two files, one of them in a folder."""

    def save(folder: Path) -> None:
        (folder / "engine").mkdir()
        (folder / "engine" / "weights").write_text(f"weights of {text}", encoding="utf-8")
        (folder / "rng").write_text(f"random state of {text}", encoding="utf-8")

    return save


def write(checkpoints: Checkpoints, step: int, best_step: int = 0) -> None:
    checkpoints.write(Progress(step=step, best_step=best_step), saving(f"step {step}"))


def latest(checkpoints: Checkpoints) -> tuple[int | None, list[str]]:
    """Return the step of the newest whole checkpoint, and what was reported."""
    reports: list[str] = []
    found = checkpoints.latest(reports.append)
    return (found.progress.step if found else None), reports


def folders(checkpoints: Checkpoints) -> list[str]:
    return sorted(folder.name for folder in checkpoints.folder.iterdir())


def test_there_is_none_before_the_first(checkpoints: Checkpoints) -> None:
    assert latest(checkpoints) == (None, [])


def test_a_checkpoint_knows_where_the_loop_stood(checkpoints: Checkpoints) -> None:
    progress = Progress(step=20, best_step=10, best_metric=0.75, stale=1)
    checkpoints.write(progress, saving("step 20"))
    found = checkpoints.latest(print)
    assert found is not None
    assert (found.folder, found.ranks, found.progress) == (checkpoints.path(20), 1, progress)
    assert (found.folder / "engine" / "weights").read_text(encoding="utf-8") == "weights of step 20"


def test_the_newest_is_the_one_of_the_greatest_step(checkpoints: Checkpoints) -> None:
    for step in (9, 20, 100):
        write(checkpoints, step)
    assert latest(checkpoints) == (100, [])


def test_a_checkpoint_of_the_same_step_is_replaced(checkpoints: Checkpoints) -> None:
    checkpoints.write(Progress(step=5), saving("an older try"))
    write(checkpoints, 5)
    assert (checkpoints.path(5) / "rng").read_text(encoding="utf-8") == "random state of step 5"
    assert latest(checkpoints) == (5, [])


def test_a_save_that_was_cut_off_is_no_checkpoint(checkpoints: Checkpoints) -> None:
    write(checkpoints, 1)

    def crash(folder: Path) -> None:
        saving("step 2")(folder)
        raise CrashError

    with pytest.raises(CrashError):
        checkpoints.write(Progress(step=2), crash)
    assert folders(checkpoints) == ["step-00000001", "step-00000002.partial"]
    assert latest(checkpoints) == (1, [])


def test_a_later_try_starts_with_an_empty_folder(checkpoints: Checkpoints) -> None:
    leftover = checkpoints.path(2).with_name("step-00000002.partial")
    leftover.mkdir(parents=True)
    (leftover / "engine").write_text("half", encoding="utf-8")
    write(checkpoints, 2)
    assert folders(checkpoints) == ["step-00000002"]
    assert latest(checkpoints) == (2, [])


def _truncate(folder: Path) -> None:
    file = folder / "engine" / "weights"
    file.write_bytes(file.read_bytes()[:-1])


def _change(folder: Path) -> None:
    file = folder / "rng"
    file.write_text(file.read_text(encoding="utf-8").replace("2", "3"), encoding="utf-8")


def _remove(folder: Path) -> None:
    (folder / "engine" / "weights").unlink()


def _unseal(folder: Path) -> None:
    (folder / "complete.json").unlink()


def _cut_the_seal(folder: Path) -> None:
    file = folder / "complete.json"
    file.write_bytes(file.read_bytes()[:-10])


def _seal_without_files(folder: Path) -> None:
    (folder / "complete.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_truncate, "engine/weights is not what was written"),
        (_change, "rng is not what was written"),
        (_remove, "engine/weights is missing"),
        (_unseal, "complete.json cannot be read: [Errno 2] No such file or directory"),
        (_cut_the_seal, "complete.json cannot be read: 1 validation error for Seal"),
        (_seal_without_files, "complete.json cannot be read: 3 validation errors for Seal"),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    checkpoints: Checkpoints, damage: Save, why: str
) -> None:
    write(checkpoints, 1)
    write(checkpoints, 2)
    damage(checkpoints.path(2))
    step, reports = latest(checkpoints)
    assert step == 1
    assert len(reports) == 1
    assert reports[0].startswith(f"checkpoint step-00000002 is damaged ({why}")
    assert reports[0].endswith("; trying the one before")


def test_what_was_damaged_later_does_not_push_out_a_new_one(checkpoints: Checkpoints) -> None:
    write(checkpoints, 10)
    write(checkpoints, 20)
    _truncate(checkpoints.path(20))
    write(checkpoints, 12)  # the run went on from step 10 and was stopped
    checkpoints.prune(keep_last=1, best_step=0)
    assert folders(checkpoints) == ["step-00000012"]
    assert latest(checkpoints) == (12, [])


def test_if_all_are_damaged_there_is_none(checkpoints: Checkpoints) -> None:
    for step in (1, 2):
        write(checkpoints, step)
        _truncate(checkpoints.path(step))
    step, reports = latest(checkpoints)
    assert step is None
    assert len(reports) == 2


def test_the_best_and_the_last_ones_are_kept(checkpoints: Checkpoints) -> None:
    for step in range(1, 7):
        write(checkpoints, step)
        checkpoints.prune(keep_last=2, best_step=min(step, 3))
    assert folders(checkpoints) == ["step-00000003", "step-00000005", "step-00000006"]


def test_before_the_first_evaluation_there_is_no_best_one_to_keep(checkpoints: Checkpoints) -> None:
    for step in (1, 2):
        write(checkpoints, step)
    checkpoints.prune(keep_last=1, best_step=0)
    assert folders(checkpoints) == ["step-00000002"]


def test_what_was_left_half_written_is_removed_and_the_rest_is_left_alone(checkpoints: Checkpoints) -> None:
    write(checkpoints, 1)
    (checkpoints.folder / "step-00000002.partial").mkdir()
    (checkpoints.folder / "step-of-mine").mkdir()
    (checkpoints.folder / "notes.txt").touch()
    checkpoints.prune(keep_last=1, best_step=1)
    assert folders(checkpoints) == ["notes.txt", "step-00000001", "step-of-mine"]


def test_ranks_other_than_the_first_remove_nothing(checkpoints: Checkpoints) -> None:
    class SecondOfTwo(OneProcess):
        rank, ranks = 1, 2

    for step in (1, 2):
        write(checkpoints, step)
    Checkpoints(checkpoints.folder, SecondOfTwo()).prune(keep_last=1, best_step=0)
    assert folders(checkpoints) == ["step-00000001", "step-00000002"]


def test_a_checkpoint_knows_how_many_ranks_wrote_it(checkpoints: Checkpoints) -> None:
    write(checkpoints, 1)
    seal = checkpoints.path(1) / "complete.json"
    told = json.loads(seal.read_text(encoding="utf-8"))
    assert told["ranks"] == 1
    assert set(told["files"]) == {"engine/weights", "rng"}
    seal.write_text(json.dumps({**told, "ranks": 2}), encoding="utf-8")
    found = checkpoints.latest(print)
    assert found is not None
    assert found.ranks == 2
