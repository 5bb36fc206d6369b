"""`tunewright zero-shot`: labels of one's own without training, in a terminal or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.console import Console

from backend.answering import Predictor
from backend.arguments import flags_given
from backend.console import show_report
from backend.errors import UserError
from backend.interfaces import Prediction, Row
from backend.spec import explain
from backend.text.one_label import label_of
from backend.text.zero_shot import ZeroShot
from webui.predict_command import answers_file, show_answers, tell
from webui.predict_file import Answered, predict_file

PROG = "tunewright zero-shot"


class _Own(BaseSettings):
    """What is asked, and where the answers go."""

    texts: CliPositionalArg[list[str]] = Field([], description="Texts to answer.")
    data: Path | None = Field(None, description="A file with rows to answer; with a column label, they are scored too.")
    out: Path | None = Field(None, description="Where the rows with their answers go: .csv or .jsonl.")
    columns: dict[str, str] = Field({}, description="text or label = the column of the file, where the names differ.")


def zero_shot_command(arguments: Sequence[str]) -> None:
    """Answer texts or the rows of a file. Raises UserError for what is wrong with the flags or the file."""
    about = "Tell labels of your own without training."
    given = flags_given(arguments, ZeroShot, _Own, prog=PROG, about=about)
    own = _Own.model_construct(**{name: given.pop(name, field.default) for name, field in _Own.model_fields.items()})
    try:
        settings = ZeroShot.model_validate(given)
    except ValidationError as error:
        raise UserError("\n".join(f"--{line}" for line in explain(error, ZeroShot))) from error
    if not own.data and not own.texts:
        raise UserError('there is nothing to answer; give texts in quotes, or --data FILE (such as "A good film.")')
    out = answers_file(Path(own.out) if own.out else None, "--data") if own.data else None
    from backend.zero_shot import zero_shot

    source = zero_shot(settings)
    if out is None:
        show_answers(source, own.texts)
    else:
        _answer_file(source, Path(str(own.data)), out, own.columns)


def _answer_file(source: Predictor, file: Path, out: Path, columns: dict[str, str]) -> None:
    """Write the answers, and print how good they are if the file has the labels."""
    answers: list[Prediction] = []
    truth: list[Row] = []

    def note(answered: Answered) -> None:
        values, _, answer = answered
        label = label_of({"label": values.get(columns.get("label", "label"))})
        if label in source.labels:
            answers.append(answer)
            truth.append({"label": label})

    count = predict_file(source, file, out, columns, note)
    tell(count, out)
    if truth:
        some = "" if len(truth) == count else f", {len(truth):,} of {count:,} rows: the others have none of the labels"
        show_report(f"Zero-shot{some}", source.task.score(answers, truth, source.context))
    elif "label" in columns:
        Console().print(f'no row of the column "{columns["label"]}" has one of the labels, so there is no report')
