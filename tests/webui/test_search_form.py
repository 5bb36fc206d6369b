from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.errors import UserError
from backend.search_dir import SearchDir, SearchSpec
from backend.spec import parse_job
from webui.search_form import read_space, start_search


def test_each_line_is_a_setting_and_what_it_may_be() -> None:
    lines = "schedule.learning_rate 1e-5..1e-3:log\n\n  tuning.rank   4, 8 \n"
    assert read_space(lines) == {"schedule.learning_rate": "1e-5..1e-3:log", "tuning.rank": "4, 8"}
    assert read_space("") == {}


def test_a_line_without_values_is_told_with_an_example() -> None:
    with pytest.raises(UserError, match=r'"seed": needs what it may be after a space: a range .* for example:'):
        read_space("seed")


@pytest.mark.parametrize("setting", ["data.train sample:movie-reviews,/etc/passwd", "model hub/id,/root"])
def test_a_page_that_others_can_reach_searches_no_paths_of_its_machine(setting: str, tmp_path: Path) -> None:
    shared: Any = SimpleNamespace(workspace=tmp_path, open_to_others=True)
    job = parse_job({"model": "hub/id", "data": {"train": "sample:movie-reviews"}})
    with pytest.raises(UserError, match="this page is open to others, so it reads no files of its machine"):
        start_search(shared, SearchSpec(job=job, space=read_space(setting)), 1)
    assert not SearchDir.all(tmp_path)
