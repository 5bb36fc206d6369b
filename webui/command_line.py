"""The command that a job means: only what differs from the defaults."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backend.spec import JobSpec
from webui.nodes import variant_name


def command_line(job: JobSpec, ranks: int, workspace: Path) -> str:
    """Return the shell command that starts the same run."""
    given = [*flags(job), ("--ranks", str(ranks)), ("--workspace", str(workspace))]
    return " \\\n  ".join(["tunewright train", *(shlex.join(words) for words in given)])


def flags(options: BaseModel, prefix: str = "", default: BaseModel | None = None) -> list[tuple[str, ...]]:
    """Return the words of each flag for all that differs from the defaults."""
    found: list[tuple[str, ...]] = []
    for name, field in type(options).model_fields.items():
        value, key = getattr(options, name), prefix + name
        if default is not None:
            usual = getattr(default, name)
        else:
            usual = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            inner = flags(value, f"{key}.", usual if isinstance(usual, type(value)) else None)
            fixed = variant_name(type(value))
            if fixed and (inner or type(value) is not type(usual)):
                found.append((f"--{key}.name", fixed))
            elif usual is None and not inner:
                found.append((f"--{key}", "on"))
            found += inner
        elif value is None and isinstance(usual, BaseModel):
            found.append((f"--{key}", "off"))
        elif value != usual:
            found += _written(key, value)
    return found


def _written(key: str, value: Any) -> Iterator[tuple[str, ...]]:
    """Yield the flags for a value: one for each part of a list."""
    if isinstance(value, bool):
        yield (f"--{key}" if value else f"--no-{key}",)
    elif isinstance(value, dict):
        yield from ((f"--{key}", f"{name}={part}") for name, part in value.items())
    elif isinstance(value, tuple | list):
        yield from ((f"--{key}", str(part)) for part in value)
    else:
        yield (f"--{key}", str(value))
