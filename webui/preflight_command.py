"""`tunewright preflight`: a table of what was checked on each host."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import BaseSettings
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.arguments import flags_given
from backend.errors import UserError
from backend.preflight import Finding, Preflight, check_hosts, raise_failures
from backend.spec import explain
from webui.commands import with_underscores

COLORS = {"ok": "green", "failed": "red", "skipped": "yellow"}


class _Own(BaseSettings):
    """There is no flag beside the settings."""


def preflight_command(arguments: Sequence[str]) -> None:
    """Print what every check came to. Raises UserError with the hosts that fail one."""
    words = with_underscores(arguments)
    given = flags_given(words, Preflight, _Own, prog="tunewright preflight", about="Check the hosts of a hostfile.")
    try:
        settings = Preflight.model_validate(given)
    except ValidationError as error:
        raise UserError("\n".join(f"--{line}" for line in explain(error, Preflight))) from error
    findings = check_hosts(settings)
    _show(findings)
    raise_failures(findings)


def _show(findings: Sequence[Finding]) -> None:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("host", "check", "result", "what was seen"):
        table.add_column(heading, overflow="fold")
    for found in findings:
        color = COLORS[found.state]
        table.add_row(escape(found.host), found.check, f"[{color}]{found.state}[/{color}]", escape(found.detail))
    Console().print(table)
