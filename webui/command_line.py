"""The command that a job means: only what differs from the defaults."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backend.spec import JobSpec
from webui.form import variant_name


def command_line(job: JobSpec, ranks: int, workspace: Path) -> str:
    """Return the shell command that starts the same run."""
    words = [*flags(job), "--ranks", str(ranks), "--workspace", str(workspace)]
    lines = [f"{name} {shlex.quote(value)}" for name, value in zip(words[::2], words[1::2], strict=True)]
    return " \\\n  ".join(["tunewright train", *lines])


def flags(options: BaseModel, prefix: str = "--", default: BaseModel | None = None) -> list[str]:
    """Return flags and values, in turns, for all that differs from the defaults."""
    words = []
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if default is not None:
            usual = getattr(default, name)
        else:
            usual = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            inner = flags(value, f"{prefix}{name}.", usual if isinstance(usual, type(value)) else None)
            fixed = variant_name(type(value))
            if fixed and (inner or type(value) is not type(usual)):
                words += [f"{prefix}{name}.name", fixed]
            words += inner
        elif value != usual:
            words += [word for written in _written(value) for word in (prefix + name, written)]
    return words


def _written(value: Any) -> Iterator[str]:
    """Yield a value as the command line takes it: one flag for each part of a list."""
    if isinstance(value, bool):
        yield str(value).lower()
    elif isinstance(value, dict):
        yield from (f"{name}={part}" for name, part in value.items())
    elif isinstance(value, tuple | list):
        yield from map(str, value)
    else:
        yield str(value)
