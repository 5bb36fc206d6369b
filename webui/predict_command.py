"""`tunewright predict`: answers in a terminal, or in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.answering import Predictor
from backend.errors import UserError
from webui.predict_file import SUFFIXES, flat, predict_file, trained_columns
from webui.predicting import command_row, predictor

NAMES = ("text", "answer", "token")  # of what an entity, an alternative or a word says
DETAILS = ("label", "type", "score")


def answer_texts(path: Path, texts: Sequence[str]) -> None:
    """Print the answers to texts. Raises UserError if there is nothing to answer."""
    if not texts:
        raise UserError('there is nothing to answer; give texts in quotes, or --file FILE (such as "A good film.")')
    show_answers(predictor(path), texts)


def show_answers(source: Predictor, texts: Sequence[str]) -> None:
    """Print what answers say to texts, one for each input of a row."""
    names = [column.name for column in source.inputs]
    if len(texts) % len(names):
        raise UserError(f"{len(texts)} texts were given, but a row has {len(names)}: {', '.join(names)}")
    typed = [texts[at : at + len(names)] for at in range(0, len(texts), len(names))]
    answers = source.predict([command_row(source, row) for row in typed])
    shown = [readable(answer) for answer in answers]
    table = Table(*names, *shown[0])
    for row, cells in zip(typed, shown, strict=True):
        table.add_row(*map(escape, row), *(escape(value) for value in cells.values()))
    Console().print(table)


def answer_file(path: Path, file: Path, out: Path | None, columns: Sequence[str]) -> None:
    """Write a file's rows with their answers. Raises UserError for what is wrong with the flags or the file."""
    out = answers_file(out, "--file")
    named = dict(pair.partition("=")[::2] for pair in columns)
    for name, column in named.items():
        if not name or not column:
            raise UserError(f'--column "{name or column}": is not TASK_COLUMN=COLUMN, such as text=review')
    count = predict_file(predictor(path), file, out, named or trained_columns(path.resolve(), file))
    tell(count, out)


def answers_file(out: Path | None, flag: str) -> Path:
    """Return where answers go. Raises UserError unless that is a file of a form in which they are written."""
    if out is None or out.suffix not in SUFFIXES:
        raise UserError(f"{flag} needs --out with a name that ends in {' or '.join(SUFFIXES)}, such as answers.csv")
    return out


def tell(count: int, out: Path) -> None:
    """Say how many answers were written, and where they are."""
    Console().print(f"{count:,} rows were predicted: {out}", soft_wrap=True, highlight=False)


def readable(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return an answer as cells for people: lists of entities and their kind in words instead of JSON."""
    plain = {
        name: _words(value) if isinstance(value, list) or _is_named(value) else value for name, value in answer.items()
    }
    return {name: f"{value:.3f}" if isinstance(value, float) else str(value) for name, value in flat(plain).items()}


def _words(value: Any) -> str:
    if isinstance(value, list):
        return (" | " if value and isinstance(value[0], list) else ", ").join(map(_words, value))
    if not _is_named(value):
        return str(value)
    said = next(str(value[name]) for name in NAMES if name in value)
    details = [value[name] for name in DETAILS if value.get(name)]
    shown = " ".join(f"{detail:.2f}" if isinstance(detail, float) else str(detail) for detail in details)
    return f"{said} ({shown})" if shown else said


def _is_named(value: Any) -> bool:
    return isinstance(value, Mapping) and any(name in value for name in NAMES)
