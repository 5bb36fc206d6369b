"""Doubtful training rows: told of, with examples, or taken out."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backend.data.near_duplicates import NearDuplicates
from backend.data.parts import Part, Picked
from backend.errors import UserError
from backend.interfaces import Array, Row, Table, Task
from backend.text.scripts import script

if TYPE_CHECKING:
    from backend.spec import Clean

EXAMPLES = 3  # of each kind
LONGEST = 120  # characters of an example
MOST = 0.9  # a data set is written in a script that so many of its rows have

KINDS = {
    "duplicates": "duplicates of a row before",
    "conflicts": "one text with different targets",
    "leaks": "texts to be validated or tested with too",
    "writing": "texts in other letters than most",
    "near_duplicates": "near duplicates of a row before",
}


class Cleaned(NamedTuple):
    """The splits, and what was found in them."""

    parts: dict[str, Part]
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


class Found(NamedTuple):
    """Rows of one kind: numbers in the training part -> the row of which they remind, in words."""

    kind: str
    like: Mapping[int, str]


def clean(parts: dict[str, Part], options: Clean, task: Task) -> Cleaned:
    """Return the splits without what is to be removed from the training rows, and what is doubtful about them.

    Keeps 17 bytes of every row, and 128 more where near duplicates are looked for. Raises UserError if a class
    would have no row left.
    """
    looked_for = [kind for kind in KINDS if getattr(options, kind) != "keep"]
    if not looked_for:
        return Cleaned(parts)
    finder = _Finder(parts, task)
    found = [Found(kind, finder.find(kind, options.similarity)) for kind in looked_for]
    found = [one for one in found if one.like]
    gone = {row for one in found if getattr(options, one.kind) == "remove" for row in one.like}
    if gone:
        parts = {**parts, "train": _without(parts["train"], gone, task)}
    rows = [row for one in found for row in finder.examples(one, getattr(options, one.kind))]
    columns = ("what", "rows", "row", "text", "of which it reminds")
    tables = (Table(title="Doubtful training rows", columns=columns, rows=tuple(rows)),) if rows else ()
    return Cleaned(parts, tuple(finder.warning(one, getattr(options, one.kind)) for one in found), tables)


def normal(row: Row, task: Task) -> str:
    """Return the texts that a row asks about, a line each, in lower case with single spaces and plain letters."""
    question = task.question(row)
    texts = {column.name for column in task.columns if column.kind == "text"}
    parts = [str(value) for name, value in question.items() if name in texts] or [" ".join(_texts(question))]
    return "\n".join(" ".join(unicodedata.normalize("NFKC", part).casefold().split()) for part in parts)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts anywhere in JSON, but not who said them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for key, part in value.items() if key != "role" for text in _texts(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in _texts(part))


class _Finder:
    """Looks for doubtful rows among those of the training part."""

    def __init__(self, parts: Mapping[str, Part], task: Task) -> None:
        self._task = task
        self._parts = parts
        self._rows = Picked(parts["train"], task)
        hashes = {name: _hashes(Picked(part, task), task) for name, part in parts.items()}
        self._texts, self._wholes = hashes["train"]
        self._others = {name: texts for name, (texts, _) in hashes.items() if name != "train"}

    def find(self, kind: str, similarity: float) -> Mapping[int, str]:
        """Return the rows of a kind."""
        if kind == "near_duplicates":
            return self._near_duplicates(similarity)
        kinds = {
            "duplicates": self._duplicates,
            "conflicts": self._conflicts,
            "leaks": self._leaks,
            "writing": self._writing,
        }
        return kinds[kind]()

    def warning(self, found: Found, handling: str) -> str:
        """Return what to tell of the rows of a kind."""
        first = min(found.like)
        what = f"{KINDS[found.kind]}, in {len(found.like):,} of the training rows"
        done = "left out" if handling == "remove" else f'data.clean.{found.kind} "remove" leaves them out'
        return f"{what}, such as {self._place('train', first)} ({found.like[first]}): {done}"

    def examples(self, found: Found, handling: str) -> Iterator[tuple[str | int, ...]]:
        """Yield rows of a table."""
        what = f"{KINDS[found.kind]}{' (left out)' if handling == 'remove' else ''}"
        for row in sorted(found.like)[:EXAMPLES]:
            text = normal(self._rows[row], self._task)
            short = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
            yield what, len(found.like), self._place("train", row), short, found.like[row]

    def _duplicates(self) -> dict[int, str]:
        _, first, groups = np.unique(self._wholes, return_index=True, return_inverse=True)
        before = first[groups]
        later = np.flatnonzero(before < np.arange(len(before))).tolist()
        return {row: self._place("train", int(before[row])) for row in later}

    def _conflicts(self) -> dict[int, str]:
        """Find rows whose text has several targets; where an answer is written, several may be right."""
        if self._task.architecture != "encoder" or all(column.role == "input" for column in self._task.columns):
            return {}
        _, first, groups = np.unique(self._texts, return_index=True, return_inverse=True)
        differs = self._wholes[first[groups]] != self._wholes
        other = first.copy()  # of each text, a row with another target than the first one
        other[groups[differs]] = np.flatnonzero(differs)
        rows = np.flatnonzero(np.isin(groups, groups[differs])).tolist()
        return {row: self._place("train", int((first if differs[row] else other)[groups[row]])) for row in rows}

    def _leaks(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for split, texts in self._others.items():
            values, first = np.unique(texts, return_index=True)
            for row in np.flatnonzero(np.isin(self._texts, values)).tolist():
                at = int(first[np.searchsorted(values, self._texts[row])])
                found.setdefault(row, f"{split} {self._place(split, at)}")
        return found

    def _writing(self) -> dict[int, str]:
        names = [script(normal(row, self._task)) for row in self._rows]
        ((main, count),) = Counter(name for name in names if name).most_common(1) or [("", 0)]
        if count < MOST * len(names):
            return {}
        return {row: f"{name}, not {main}" for row, name in enumerate(names) if name not in ("", main)}

    def _near_duplicates(self, similarity: float) -> dict[int, str]:
        near = NearDuplicates(len(self._rows), similarity, lambda row: normal(self._rows[row], self._task))
        for number, row in enumerate(self._rows):
            near.add(number, normal(row, self._task))
        pairs = near.pairs().items()
        same = self._texts
        return {row: self._place("train", other) for row, other in pairs if same[row] != same[other]}

    def _place(self, split: str, number: int) -> str:
        part = self._parts[split]
        row, _ = part.rows.place(int(part.indices[number]))
        return f"row {row:,} of {part.rows.name}" if split != "train" else f"row {row:,}"


def _hashes(rows: Picked, task: Task) -> tuple[Array, Array]:
    """Return for each row the hash of its text, and that of all that it has."""
    texts, wholes = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.uint64)
    for number, row in enumerate(rows):
        text = normal(row, task)
        asked = task.question(row)
        rest = {name: value for name, value in row.items() if name not in asked}
        texts[number] = _hash(text)
        wholes[number] = _hash(f"{text}\n{json.dumps(rest, ensure_ascii=False, sort_keys=True)}")
    return texts, wholes


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _without(part: Part, gone: set[int], task: Task) -> Part:
    kept = np.setdiff1d(np.arange(len(part.indices)), np.fromiter(gone, np.int64))
    left = Part(part.rows, part.indices[kept], {})
    counts = Counter(dict.fromkeys(part.label_counts, 0))
    counts.update(task.strata(row) for row in Picked(left, task))
    lost = [name for name, count in part.label_counts.items() if count and not counts[name]]
    if lost or not len(kept):
        raise UserError(
            f"data.clean: no training row of {' and '.join(map(repr, lost))} is left once all doubtful ones are "
            'removed; set some of its settings to "report" and see the warnings'
        )
    return replace(left, label_counts=dict(counts))
