"""Parts of a text in colours."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from webui import render

COLORS = 8  # classes tw-c0 to tw-c7 of the style sheet


class Span(NamedTuple):
    """A part of a text, by its characters, and the words beside it."""

    start: int
    end: int
    label: str = ""
    title: str = ""  # shown while the pointer is over it


def highlighted(text: str, spans: Iterable[Span]) -> str:
    """Return a text with its spans in the colours of their labels; of two that overlap the first one is shown."""
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    colors = colors_of([span.label for span in ordered])
    parts, end = [], 0
    for span in ordered:
        if span.start < end or span.end <= span.start:
            continue
        label = f"<i>{render.text(span.label)}</i>" if span.label else ""
        parts.append(render.text(text[end : span.start]))
        parts.append(
            f'<mark class="tw-span tw-c{colors[span.label]}" title="{render.text(span.title)}">'
            f"{render.text(text[span.start : span.end])}{label}</mark>"
        )
        end = span.end
    return f'<div class="tw-text">{"".join(parts)}{render.text(text[end:])}</div>'


def colors_of(labels: Sequence[str]) -> dict[str, int]:
    """Return a colour for each label: the same in every text, unless another label of this one has it."""
    colors: dict[str, int] = {}
    for label in sorted(set(labels)):
        wanted = zlib.crc32(label.encode()) % COLORS
        free = [(wanted + step) % COLORS for step in range(COLORS)]
        colors[label] = next((color for color in free if color not in colors.values()), wanted)
    return colors
