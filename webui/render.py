"""Small pieces of HTML that several tabs share. All text that comes from outside goes through `text`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backend.interfaces import Table

LONG = 40  # characters of a cell that gets room for lines of its own
MOST = 24  # bars of one list

# The page's template engine gives these a meaning, even in a value.
_TEMPLATE_SIGNS = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;", "@": "&#64;"})


class Html(str):
    """Text that is HTML already, for a cell of a table."""

    __slots__ = ()


def text(value: Any) -> str:
    """Return text that the browser shows letter by letter."""
    return html.escape(str(value)).translate(_TEMPLATE_SIGNS)


def number(value: Any) -> str:
    """Return a cell's text: numbers with four decimals, anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def problem(message: str, title: str = "This needs your attention") -> str:
    """Return a box with an error message in full."""
    return f'<div class="tw-problem" role="alert"><b>{text(title)}</b><pre>{text(message)}</pre></div>'


def note(message: str) -> str:
    """Return a quiet line."""
    return f'<p class="tw-note">{text(message)}</p>'


def badge(state: str) -> str:
    """Return the state of a run as a coloured word."""
    return f'<span class="tw-badge tw-{text(state)}">{text(state)}</span>'


def bar(share: float, label: str = "") -> str:
    """Return a progress bar."""
    percent = f"{100 * min(max(share, 0.0), 1.0):.0f}"
    return (
        f'<div class="tw-bar" role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" aria-valuemax="100">'
        f'<div style="width:{percent}%"></div></div>' + (f'<div class="tw-under">{text(label)}</div>' if label else "")
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> str:
    """Return a table; numbers stand to the right."""
    head = "".join(f"<th>{text(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    caption = f"<h4>{text(title)}</h4>" if title else ""
    return f'{caption}<div class="tw-scroll"><table class="tw-table"><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, Html):
        return f'<td class="tw-long">{value}</td>'
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="tw-number">{number(value)}</td>'
    wide = ' class="tw-long"' if len(str(value)) > LONG else ""
    return f"<td{wide}>{text(value)}</td>"


def report_table(raw: Mapping[str, Any]) -> str:
    """Return a table of a report."""
    content = Table.model_validate(raw)
    return table(content.columns, content.rows, content.title)


def headline(message: str) -> str:
    """Return the answer itself, in large letters."""
    return f'<p class="tw-headline">{text(message)}</p>'


def counts(title: str, amounts: Mapping[str, int]) -> str:
    """Return amounts as bars, the largest full."""
    most = max(amounts.values(), default=0) or 1
    rows = [_labelled_bar(name, amount / most, f"{amount:,}") for name, amount in amounts.items()]
    return f"<h4>{text(title)}</h4>{_first(rows)}"


def shares(scores: Iterable[tuple[str, float]], chosen: Sequence[str] = (), title: str = "") -> str:
    """Return probabilities as bars, the largest first and those of the answer marked."""
    ordered = sorted(scores, key=lambda item: -item[1])
    rows = [_labelled_bar(name, share, f"{share:.1%}", chosen=name in chosen) for name, share in ordered]
    return (f"<h4>{text(title)}</h4>" if title else "") + _first(rows)


def _labelled_bar(name: str, share: float, amount: str, *, chosen: bool = False) -> str:
    mark = " tw-chosen" if chosen else ""
    return (
        f'<div class="tw-count{mark}"><span title="{text(name)}">{text(name)}</span>'
        f'<div class="tw-bar"><div style="width:{100 * share:.0f}%"></div></div><span>{text(amount)}</span></div>'
    )


def _first(rows: Sequence[str]) -> str:
    more = note(f"and {len(rows) - MOST:,} more") if len(rows) > MOST else ""
    return "".join(rows[:MOST]) + more


def duration(seconds: float) -> str:
    """Return a duration for people: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
