"""What the commands share: how flags are passed on, examples in their help, and errors that the user can put right."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.errors import EXIT_CODE, UserError

PASSED_ON: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
Workspace = Annotated[Path, typer.Option(help="Folder of the runs.")]
WORKSPACE = Path("runs")


def examples(*lines: str) -> str:
    """Return examples for the end of a help text, each on a line of its own."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def with_underscores(words: Sequence[str]) -> list[str]:
    """Return flags as settings are named, so that --ssh-port is understood as --ssh_port is."""
    return [
        re.sub(r"(?<=\w)-(?=\w)", "_", flag) + sign + value
        if word.startswith("--") and not word.startswith("--no-")
        else word
        for word in words
        for flag, sign, value in [word.partition("=")]
    ]


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn what the user can put right into one message and exit code 2; bugs keep their traceback."""
    try:
        yield
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_CODE) from error
