from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.errors import UserError
from backend.rundir import RunDir
from backend.spec import parse_job
from backend.tasks import TASKS
from export.bundle import check_precision
from export.quantizers import QUANTIZERS
from webui.export_tab import ExportTab, _limit, precisions
from webui.shared import Shared


def fitted(workspace: Path, task_name: str, chosen: str | None = None) -> tuple[Any, Any]:
    job = parse_job({"model": "m", "task": {"name": task_name}, "data": {"train": "a.csv"}})
    run = RunDir.create(workspace, job)
    nothing: Any = None
    return ExportTab(Shared(workspace, nothing, nothing)).fit(run.id, chosen)


def test_only_precisions_of_the_architecture_of_the_run_are_offered(tmp_path: Path) -> None:
    for name, task in TASKS.items():
        radio, _ = fitted(tmp_path, name)
        offered = [value for _, value in radio.choices]
        assert offered == precisions(task)
        assert radio.value in offered
        for precision in offered:
            check_precision(precision, task)
        for other in QUANTIZERS.keys() - set(offered):
            with pytest.raises(UserError, match="is not offered for"):
                check_precision(other, task)


def test_the_choice_is_kept_where_it_is_offered(tmp_path: Path) -> None:
    assert fitted(tmp_path, "text-classification", "fp32")[0].value == "fp32"
    assert fitted(tmp_path, "text-classification", "int3")[0].value == "int8"


def test_an_empty_drop_is_what_the_task_allows(tmp_path: Path) -> None:
    assert _limit(None) is None
    assert _limit(" ") is None
    assert _limit("0.5") == 0.5
    for wrong in ("-1", "much", "nan", "inf"):
        with pytest.raises(UserError, match=f'"{wrong}" is not a number of at least 0, such as 0.01'):
            _limit(wrong)
    assert fitted(tmp_path, "text-classification")[1].placeholder == "0.01"
    assert fitted(tmp_path, "masked-language-modelling")[1].placeholder == "0.05 of it"
