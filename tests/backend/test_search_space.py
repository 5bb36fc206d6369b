from __future__ import annotations

from typing import Any

import pytest

from backend.errors import UserError
from backend.search_space import Space, parse_dimension
from backend.spec import JobSpec, parse_job


class Chooser:
    """Takes what it is told to, and notes what it was offered."""

    def __init__(self, **told: Any) -> None:
        self.told = {key.replace("__", "."): value for key, value in told.items()}
        self.offered: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.offered[name] = choices
        return self.told.get(name, choices[0])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.offered[name] = (low, high, step, log)
        return int(self.told.get(name, low))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.offered[name] = (low, high, step, log)
        return float(self.told.get(name, low))


@pytest.fixture
def base() -> JobSpec:
    return parse_job({"model": "m", "data": {"train": "t.csv"}})


@pytest.mark.parametrize(
    ("key", "text", "offered"),
    [
        ("schedule.learning_rate", "1e-5..1e-3:log", (1e-5, 1e-3, None, True)),
        ("schedule.weight_decay", "0..0.1", (0.0, 0.1, None, False)),
        ("schedule.weight_decay", "0..0.1:0.05", (0.0, 0.1, 0.05, False)),
        ("schedule.epochs", "1..4", (1.0, 4.0, None, False)),  # a real number, whatever is typed
        ("schedule.batch_size", "8..64", (8, 64, 1, False)),
        ("schedule.batch_size", "8..64:log", (8, 64, 1, True)),
        ("schedule.batch_size", "8..30:8", (8, 24, 8, False)),  # ends where a step ends
        ("schedule.batch_size", "4,8,16", ("4", "8", "16")),
        ("schedule.decay", "linear, cosine", ("linear", "cosine")),
    ],
)
def test_a_text_says_what_a_setting_may_be(key: str, text: str, offered: Any) -> None:
    chooser = Chooser()
    parse_dimension(key, text).suggest(chooser)
    assert chooser.offered == {key: offered}


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("schedule.lerning_rate", "1..2", 'there is no such setting; did you mean "schedule.learning_rate"?'),
        ("task.name", "a,b", "must be the same in all trials"),
        ("schedule.decay", "1..2", "the setting is no number; list its values"),
        ("schedule.batch_size", "1.5..3", "the setting is a whole number"),
        ("schedule.learning_rate", "5", "is nothing to choose from; give a range"),
        ("schedule.learning_rate", "0..1:log", "a logarithm needs numbers above 0"),
        ("schedule.learning_rate", "2..1", "2 is not below 1"),
        ("schedule.learning_rate", "1..2:0", "the step must be above 0"),
    ],
)
def test_what_a_text_has_wrong_is_said_with_its_key(key: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as failure:
        parse_dimension(key, text)
    assert str(failure.value).startswith(f"search.{key}")


def test_the_settings_of_a_way_to_tune_are_chosen_with_it_alone(base: JobSpec) -> None:
    space = Space({"tuning.layers": "1..3", "tuning.name": "full,freeze"})
    full, freeze = Chooser(), Chooser(tuning__name="freeze", tuning__layers=3)
    assert space.job(base, full).tuning.name == "full"
    assert set(full.offered) == {"tuning.name"}
    assert space.job(base, freeze).tuning.model_dump(include={"name", "layers"}) == {"name": "freeze", "layers": 3}


def test_an_objective_is_searched_with_its_settings_as_long_as_it_is_on(base: JobSpec) -> None:
    space = Space({"objectives.fgm": "on,off", "objectives.fgm.epsilon": "0.5..2"})
    on, off = Chooser(objectives__fgm__epsilon=1.5), Chooser(objectives__fgm="off")
    assert space.job(base, on).model_dump()["objectives"]["fgm"]["epsilon"] == 1.5
    assert space.job(base, off).model_dump()["objectives"]["fgm"] is None
    assert set(off.offered) == {"objectives.fgm"}


def test_a_setting_of_an_objective_alone_switches_it_on(base: JobSpec) -> None:
    job = Space({"objectives.fgm.epsilon": "0.5..2"}).job(base, Chooser())
    assert job.model_dump()["objectives"]["fgm"]["epsilon"] == 0.5


def test_a_grid_has_each_job_once(base: JobSpec) -> None:
    space = Space({"tuning.name": "full,freeze", "tuning.layers": "1,2", "schedule.batch_size": "8..16:8"})
    grid = space.grid(base, 20)
    assert len(grid) == 6  # full has no layers
    assert {tuple(sorted(choice)) for choice in grid} == {
        ("schedule.batch_size", "tuning.name"),
        ("schedule.batch_size", "tuning.layers", "tuning.name"),
    }
    assert space.grid(base, 5) == []
    assert Space({"schedule.learning_rate": "1..2"}).grid(base, 20) == []


def test_a_value_that_is_no_good_is_found_before_a_run_is_made(base: JobSpec) -> None:
    Space({"schedule.batch_size": "8,16"}).check(base)
    with pytest.raises(UserError, match=r"schedule\.batch_size: .*greater than or equal to 1"):
        Space({"schedule.batch_size": "8,0"}).check(base)
