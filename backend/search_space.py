"""What a search may try: settings of a job by their dotted names, each with a range of numbers or a list of values.

schedule.learning_rate   1e-5..1e-3:log    a range, even in the logarithm
schedule.epochs          1..4              a range; of whole numbers where the setting is one
schedule.batch_size      8..64:8           in steps of 8
tuning.rank              4,8,16            one of these
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from pydantic import BaseModel

from backend.errors import UserError
from backend.interfaces import Options
from backend.spec import JobSpec, classes_in, dotted_keys, parse_job
from backend.tasks import TASKS
from backend.tuning import TUNINGS

FORMS = "a range (1e-5..1e-3, 1e-5..1e-3:log, 8..64:8) or a list (4,8,16)"
FIXED = {"version", "name", "task.name"}  # what names the job, and what the metric comes from
VARIANTS: Mapping[str, Mapping[str, Any]] = {"task": TASKS, "tuning": TUNINGS}
SWITCHED = ("objectives", "augment")
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


class Trial(Protocol):
    """What chooses: optuna's Trial."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number of a range, its ends included."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number of a range."""


class Dimension(Options):
    """One setting and what it may be."""

    key: str
    choices: tuple[str, ...] = ()  # empty: a range
    whole: bool = False
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False

    def suggest(self, trial: Trial) -> Any:
        """Return a value that a trial chooses."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if self.whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def extremes(self) -> tuple[Any, ...]:
        """Return the values that stand for all: every choice, or the ends of the range."""
        return self.choices or ((int(self.low), int(self.high)) if self.whole else (self.low, self.high))

    def values(self, limit: int) -> tuple[Any, ...]:
        """Return all values, or none if there are more than a limit or no end of them."""
        step = self.step or (1 if self.whole else None)
        if self.choices or step is None or (self.high - self.low) / step >= limit:
            return self.choices
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        numbers = [self.low + number * step for number in range(count)]
        return tuple(int(number) for number in numbers) if self.whole else tuple(numbers)

    def matters(self, raw: Mapping[str, Any]) -> bool:
        """Tell whether a job has the setting: that of a way to tune goes with it, that of an objective that is off too.

        `raw` is the job as JSON.
        """
        group, _, rest = self.key.partition(".")
        if group in VARIANTS and rest != "name":
            return rest.partition(".")[0] in VARIANTS[group][raw[group]["name"]].Options.model_fields
        method, _, setting = rest.partition(".")
        return not (group in SWITCHED and setting) or raw[group].get(method) is not None


class Space:
    """All that a search may try."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        found = [parse_dimension(key, text) for key, text in texts.items()]
        # What decides whether others matter comes first: the names, then the switches.
        self.dimensions = sorted(found, key=lambda one: (not one.key.endswith(".name"), one.key.count(".")))
        searched = {one.key for one in found}
        # A setting of an objective that is nowhere said to be on or off switches it on.
        self._switches = {
            switch
            for one in found
            if one.key.partition(".")[0] in SWITCHED and (switch := one.key.rpartition(".")[0]).count(".") == 1
        } - searched

    def job(self, base: JobSpec, trial: Trial) -> JobSpec:
        """Return the job of a trial. Raises UserError if what it has chosen does not go together."""
        raw = base.model_dump(mode="json")
        for switch in sorted(self._switches):
            _put(raw, switch, "on")
        for dimension in self.dimensions:
            if dimension.matters(raw):
                _put(raw, dimension.key, dimension.suggest(trial))
        return parse_job(raw)

    def check(self, base: JobSpec) -> None:
        """Raise UserError if a value is no good by itself."""
        for _ in self.jobs(base):
            pass

    def jobs(self, base: JobSpec) -> Iterator[JobSpec]:
        """Yield a job for each value with the first of all others. Raises UserError if a value is no good by itself."""
        for dimension in self.dimensions:
            for value in dimension.extremes():
                yield self.job(base, _Fixed({dimension.key: value}))

    def grid(self, base: JobSpec, limit: int) -> list[dict[str, Any]]:
        """Return all choices that make a job, or none if there are more than a limit, or real numbers without a step.

        A choice is the values by the names of the settings that matter.
        """
        values = [one.values(limit) for one in self.dimensions]
        if not all(values) or math.prod(map(len, values)) > limit * 4 ** len(values):
            return []
        found: list[dict[str, Any]] = []
        for combination in itertools.product(*values):
            fixed = _Fixed(dict(zip((one.key for one in self.dimensions), combination, strict=True)))
            with contextlib.suppress(UserError):  # what does not go together is no choice
                self.job(base, fixed)
                if fixed.asked not in found:
                    found.append(fixed.asked)
        return found if len(found) <= limit else []


class _Fixed:
    """Chooses the first of everything but what it is told."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told
        self.asked: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._asked(name, choices[0])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._asked(name, low))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._asked(name, low))

    def _asked(self, name: str, first: Any) -> Any:
        self.asked[name] = self._told.get(name, first)
        return self.asked[name]


def parse_dimension(key: str, text: str) -> Dimension:
    """Return what a text says about a setting. Raises UserError if there is no such setting, or no such range."""
    kinds = _kinds(key)
    numbers = re.fullmatch(rf"\s*({NUMBER})\.\.({NUMBER})(?::(log|{NUMBER}))?\s*", text)
    if numbers is None:
        choices = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if len(choices) < 2:
            raise UserError(f'search.{key} "{text}": is nothing to choose from; give {FORMS}')
        return Dimension(key=key, choices=choices)
    if not kinds & {int, float}:
        raise UserError(f'search.{key} "{text}": the setting is no number; list its values, as in a,b,c')
    low, high, how = numbers.groups()
    whole = float not in kinds
    log, step = how == "log", None if how in (None, "log") else float(how)
    if float(low) >= float(high):
        raise UserError(f'search.{key} "{text}": {low} is not below {high}; give the smaller number first')
    if log and float(low) <= 0:
        raise UserError(f'search.{key} "{text}": a logarithm needs numbers above 0; leave out :log, or start higher')
    if step is not None and step <= 0:
        raise UserError(f'search.{key} "{text}": the step must be above 0')
    if whole and any(float(number) % 1 for number in (low, high, step or 1)):
        raise UserError(f'search.{key} "{text}": the setting is a whole number; give whole numbers')
    last = float(high) if step is None else float(low) + math.floor((float(high) - float(low)) / step + 1e-9) * step
    return Dimension(key=key, whole=whole, low=float(low), high=last, step=step, log=log)


def _kinds(key: str) -> set[type]:
    """Return the types that a setting may have. Raises UserError if there is no such setting, or it is not to vary."""
    known = [name for name in dotted_keys(JobSpec) if name not in FIXED]
    if key in FIXED:
        raise UserError(f"search.{key}: must be the same in all trials, or their results could not be compared")
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1)
        meant = f'; did you mean "{close[0]}"?' if close else "; `tunewright train --help` lists the settings"
        raise UserError(f"search.{key}: there is no such setting{meant}")
    return set(_leaves(JobSpec, key.split(".")))


def _leaves(model: type[BaseModel], path: list[str]) -> Iterator[type]:
    field = model.model_fields.get(path[0])
    for kind in classes_in(field.annotation) if field else ():
        if len(path) == 1:
            yield kind
        elif issubclass(kind, BaseModel):
            yield from _leaves(kind, path[1:])


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a job in JSON; another variant takes with it what only the old one had."""
    group, _, rest = key.partition(".")
    *folders, name = key.split(".")
    if group in VARIANTS and rest == "name" and value in VARIANTS[group]:
        fields = VARIANTS[group][value].Options.model_fields
        raw[group] = {field: kept for field, kept in raw[group].items() if field in fields}
    if group in SWITCHED and len(folders) == 1:
        value = {"on": raw[group].get(name) or {}, "off": None}.get(str(value).lower(), value)
    for folder in folders:
        raw = raw[folder]
    raw[name] = _plain(value)


def _plain(value: Any) -> Any:
    """Return a value of a list as JSON has it, where it is JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
