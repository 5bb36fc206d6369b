"""`tunewright predict`: answers in a terminal, or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.errors import UserError
from webui.predicting import flat, predict_file, predictor, trained_columns


def answer_texts(path: Path, texts: Sequence[str]) -> None:
    """Print the answers to texts. Raises UserError if there is nothing to answer."""
    if not texts:
        raise UserError('there is nothing to answer; give texts in quotes, or --file FILE (such as "A good film.")')
    source = predictor(path)
    names = [column.name for column in source.task.inputs]
    if len(texts) % len(names):
        raise UserError(f"{len(texts)} texts were given, but a row has {len(names)}: {', '.join(names)}")
    rows = [dict(zip(names, texts[at : at + len(names)], strict=True)) for at in range(0, len(texts), len(names))]
    answers = [flat(answer) for answer in source.predict(rows)]
    table = Table(*names, *answers[0])
    for row, answer in zip(rows, answers, strict=True):
        cells = (f"{value:.3f}" if isinstance(value, float) else str(value) for value in answer.values())
        table.add_row(*(escape(text) for text in row.values()), *(escape(cell) for cell in cells))
    Console().print(table)


def answer_file(path: Path, file: Path, out: Path | None, columns: Sequence[str]) -> None:
    """Write a file's rows with their answers. Raises UserError for what is wrong with the flags or the file."""
    if out is None:
        raise UserError("--file needs --out, such as --out answers.csv")
    named = dict(pair.partition("=")[::2] for pair in columns)
    for name, column in named.items():
        if not name or not column:
            raise UserError(f'--column "{name or column}": is not TASK_COLUMN=COLUMN, such as text=review')
    count = predict_file(predictor(path), file, out, named or trained_columns(path.resolve(), file))
    Console().print(f"{count:,} rows were predicted: {out}", soft_wrap=True, highlight=False)
