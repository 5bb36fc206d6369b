"""The data of a job as HTML: how much there is, what is in it, and the first rows for people to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from backend.data.preview import Preview
from backend.interfaces import Row
from webui import render, run_view
from webui.views.highlight import Span, highlighted

LONGEST = 240  # characters of a cell
TURNS = 6  # of a conversation


def preview_html(found: Preview) -> str:
    """Return what a job would learn from."""
    parts = [run_view.tiles({"rows": found.size, **{f"{name} rows": count for name, count in found.splits.items()}})]
    parts += [render.note(f"Read as {found.form}.")] if found.form else []
    parts += [f'<p class="tw-warning">{render.text(warning)}</p>' for warning in found.warnings]
    if len(found.label_counts) > 1:
        parts.append(render.counts("Labels" if found.labels else "Kinds of rows", found.label_counts))
    columns = [name for name in (found.rows[0] if found.rows else {}) if any(_given(row, name) for row in found.rows)]
    rows = [[_cell(row, name) for name in columns] for row in found.rows]
    parts.append(render.table(columns, rows, "First rows"))
    return "".join(parts)


def _given(row: Row, name: str) -> bool:
    return row.get(name) not in (None, "")


def _cell(row: Row, name: str) -> str:
    """Return a value for people: a text with its entities in colours, a conversation turn by turn, other JSON short."""
    value = row.get(name)
    if isinstance(value, str) and _are(row.get("entities"), "start", "end", "label"):
        spans = [Span(one["start"], one["end"], one["label"]) for one in row["entities"] if one["end"] <= LONGEST]
        return render.Html(highlighted(value[:LONGEST], spans))
    if isinstance(value, list) and value and _are(value, "role", "content"):
        return render.Html("".join(map(_turn, value[:TURNS])) + (render.note("...") if len(value) > TURNS else ""))
    if value is None or isinstance(value, str):
        return _short(value or "")
    if _are(value, "start", "end", "label"):
        return _short(", ".join(f"{one['label']} {one['start']}-{one['end']}" for one in value))
    return _short(_listed(value, str(row.get("text") or "")) or json.dumps(value, ensure_ascii=False))


def _listed(value: Any, text: str) -> str:
    """Return a list of words, or of the places of words in a text, as words; nothing for any other value."""
    if not isinstance(value, list):
        return ""
    if all(isinstance(one, str) for one in value):
        return " ".join(value)
    if all(isinstance(one, list) and len(one) == 2 and all(isinstance(place, int) for place in one) for one in value):
        return " ".join(text[start:end] for start, end in value)
    return ""


def _are(value: Any, *keys: str) -> bool:
    """Tell whether a value is a list of objects with these keys."""
    return isinstance(value, list) and all(isinstance(one, Mapping) and set(keys) <= one.keys() for one in value)


def _turn(message: Mapping[str, str]) -> str:
    return f"<div><b>{render.text(message['role'])}:</b> {render.text(_short(message['content']))}</div>"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
