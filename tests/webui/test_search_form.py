from __future__ import annotations

import pytest

from backend.errors import UserError
from webui.search_form import read_space


def test_each_line_is_a_setting_and_what_it_may_be() -> None:
    lines = "schedule.learning_rate 1e-5..1e-3:log\n\n  tuning.rank   4, 8 \n"
    assert read_space(lines) == {"schedule.learning_rate": "1e-5..1e-3:log", "tuning.rank": "4, 8"}
    assert read_space("") == {}


def test_a_line_without_values_is_told_with_an_example() -> None:
    with pytest.raises(UserError, match=r'"seed": needs what it may be after a space: a range .* for example:'):
        read_space("seed")
