"""A profile leaves a trace of each rank with the parts of a step, and a run that has no model."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from backend.arguments import parse
from backend.errors import UserError
from backend.measuring import PARTS
from backend.profiling import WARM_UP, profile
from backend.rank import connect
from backend.rundir import RunDir
from webui.profile_command import record

NewRun = Callable[..., RunDir]
STEPS = 2


def parts_in(run: RunDir, rank: int) -> Counter[str]:
    """Return how often each part of a step is in a trace."""
    with gzip.open(run.trace(rank), "rt", encoding="utf-8") as file:
        events: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return Counter(event["name"] for event in events if event.get("cat") == "user_annotation")


def test_a_profile_of_one_process(new_tiny_run: NewRun) -> None:
    run = new_tiny_run(**{"schedule.accumulation_steps": 2})
    asked = parse(["--job", str(run.job_file)])
    profile(asked, connect(), STEPS)
    found = parts_in(run, 0)
    # Each step has two parts of a batch; after them there is a look for a third.
    assert {part: found[part] for part in PARTS} == {
        "data": 3 * STEPS,
        "forward": 2 * STEPS,
        "backward": 2 * STEPS,
        "optimizer": 2 * STEPS,
    }
    assert "aten::addmm" in run.operations_file.read_text(encoding="utf-8")
    assert (run.status().state, run.status().step) == ("stopped", WARM_UP + STEPS)
    assert "a profile of 2 steps" in run.status().message
    assert [record["step"] for record in run.metrics()] == [1, 2, 3, 4]
    assert not run.model.exists()


def test_a_profile_that_cannot_be_made_says_why(new_tiny_run: NewRun) -> None:
    run = new_tiny_run(**{"data.columns": "text=nothing"})
    with pytest.raises(UserError, match="nothing"):
        profile(parse(["--job", str(run.job_file)]), connect(), STEPS)
    assert run.status().state == "failed"


def test_a_job_with_too_few_steps_says_how_many_there_are(new_tiny_run: NewRun) -> None:
    run = new_tiny_run(**{"schedule.steps": 4})
    with pytest.raises(UserError, match="3 steps and 2 before them, but the job has 4; ask for at most 2"):
        profile(parse(["--job", str(run.job_file)]), connect(), 3)


@pytest.mark.slow
def test_a_profile_of_two_processes(new_tiny_run: NewRun) -> None:
    run = new_tiny_run()
    record(run, 2, STEPS)
    for rank in (0, 1):
        assert parts_in(run, rank)["backward"] == STEPS
    assert "c10d::allreduce_" in run.operations_file.read_text(encoding="utf-8")
