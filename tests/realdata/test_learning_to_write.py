"""Every task that writes learns from real data far beyond what needs no learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cases import CASES, trained

from backend.tasks import TASKS

pytestmark = pytest.mark.slow


NAMES = [name for name, case in CASES.items() if TASKS[case.task].architecture != "encoder"]


@pytest.mark.timeout(1800)  # on two cores and nothing beside it, the longest takes 600
@pytest.mark.parametrize("name", NAMES)
def test_a_task_learns_from_real_data(
    name: str, tmp_path: Path, real_data: Callable[[str], Path], record_property: Callable[[str, object], None]
) -> None:
    case = CASES[name]
    reached = trained(case, tmp_path, real_data)[case.metric]
    record_property(case.metric, reached)
    assert reached <= case.bound if case.bound < case.baseline else reached >= case.bound
