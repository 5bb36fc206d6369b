"""The part of a text that answers a question, if it has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from tokenizers import Encoding

from backend.errors import UserError
from backend.interfaces import (
    IGNORED,
    Array,
    Column,
    Context,
    Decisions,
    Features,
    Layout,
    Outputs,
    Part,
    Prediction,
    Report,
    Row,
    Task,
)
from backend.text.answers import EXAMPLE, best_spans, canonical, faults, single, trimmed
from backend.text.whole import softmax

if TYPE_CHECKING:
    from torch import Tensor

    from backend.text.edits import Change

QUESTION = Column(name="question", description="The question.")
CONTEXT = Column(name="context", description="The text that holds the answer, or does not.")
ANSWERS = Column(
    name="answers",
    kind="json",
    role="target",
    description=f"Every right answer and the character of the context at which it begins, as in {EXAMPLE}.",
)
ONE_ANSWER = (
    Column(name="answer", role="target", description="The answer; empty if the context has none."),
    Column(name="answer_start", role="target", description="The character of the context at which it begins."),
)
ROOM = 8  # tokens of a context that a window must have beside its question
ALTERNATIVES = 4  # further answers that a prediction names
LONGEST_QUOTE = 60  # characters of a question in a message


class QuestionAnswering(Task):
    """The part of a text that answers a question, if it has one.

    A context longer than the model reads is read in windows that overlap; the best answer of all of them wins.
    """

    title = "Question answering (extractive)"
    auto_model = "AutoModelForQuestionAnswering"
    columns: ClassVar[tuple[Column, ...]] = (QUESTION, CONTEXT, ANSWERS)
    files: ClassVar[Mapping[str, str]] = {".json": "squad"}
    outputs = ("start_logits", "end_logits")
    # The last one says with a 1 for each piece whether an answer may begin or end there.
    targets = ("start_positions", "end_positions", "candidates")
    extras = ("starts", "ends")  # characters of the context; a piece that is not of the context ends at 0
    link = "places"
    metric = "f1"
    view = "answer"

    class Options(Task.Options):
        """Settings of question answering."""

        name: Literal["question-answering"] = "question-answering"
        max_length: int = Field(384, ge=16, description="Tokens of a question with a window of its context.")
        stride: int = Field(128, ge=0, description="Tokens of a window that stand in the one before it too.")
        max_answer_length: int = Field(30, ge=1, description="Tokens of an answer at most.")
        unanswerable: Literal["auto", "yes", "no"] = Field(
            "auto", description="Whether a context may hold no answer; auto: if it is so in a training row."
        )
        null_threshold: float = Field(
            0.0, description="How much more the model must believe in no answer than in the best one; above 0: rarer."
        )

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The answers in one column, as SQuAD has them, or one answer in two columns."""
        return (
            Layout("question, context, answers", self.columns, _with_answers),
            Layout("question, context, answer, answer_start", (QUESTION, CONTEXT, *ONE_ANSWER), _with_one_answer),
        )

    def settle(self, rows: Sequence[Row], options: Any) -> Any:
        """Return the options with the decision whether there are questions without an answer."""
        if options.unanswerable != "auto":
            return options
        without = any(row.get("answers") and not row["answers"]["text"] for row in rows)
        return options.model_copy(update={"unanswerable": "yes" if without else "no"})

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield empty texts, and answers that do not stand where they should or that there may not be."""
        found = list(self.input_faults(row)) or list(faults(row))
        if not found and options.unanswerable == "no" and not row["answers"]["text"]:
            found = [("answers", 'has no answer, but task.unanswerable is "no"; give an answer or say "yes"')]
        yield from found

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode each question with its context, in as many windows as that takes."""
        pairs = [(row["question"], row["context"]) for row in rows]
        encodings = context.tokenizer.whole(pairs)
        return [list(_windows(row, encoding, context)) for row, encoding in zip(rows, encodings, strict=True)]

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return the score of no answer, and the best spans of the window as [score, first character, end]."""
        length = len(features["input_ids"])
        start, end = (np.asarray(outputs[name][:length], dtype=np.float64) for name in self.outputs)
        null = _null_place(features["input_ids"], context)
        pieces = np.flatnonzero(features["ends"])
        scores, firsts, lasts = best_spans(start[pieces], end[pieces], context.options.max_answer_length)
        starts, ends = np.asarray(features["starts"])[pieces], np.asarray(features["ends"])[pieces]
        spans = zip(scores.tolist(), starts[firsts].tolist(), ends[lasts].tolist(), strict=True)
        return {"null": float(start[null] + end[null]), "spans": [list(span) for span in spans]}

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the best answer of all windows, or none where the model believes more in that there is none."""
        options, text = context.options, row["context"]
        spans = trimmed([tuple(span) for part in parts for span in part["spans"]], text)
        null = min(part["null"] for part in parts)
        may_be_none = options.unanswerable == "yes" or not spans
        chances = softmax([score for score, _, _ in spans] + [null] * may_be_none).tolist()
        answers = [
            {"answer": text[start:end], "start": start, "end": end, "score": chance}
            for (_, start, end), chance in zip(spans, chances, strict=False)
        ]
        if may_be_none and (not spans or null - spans[0][0] > options.null_threshold):
            answers.insert(0, {"answer": "", "start": 0, "end": 0, "score": chances[-1]})
        return {**answers[0], "alternatives": answers[1 : 1 + ALTERNATIVES]}

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return exact match and F1 as for SQuAD 2, for questions with and without an answer too."""
        from backend.metrics.answers import answer_report

        return answer_report([one["answer"] for one in predictions], [row["answers"]["text"] for row in rows])

    def any_target(self, labels: Sequence[str]) -> Row:
        """Return a target that a row may have."""
        return {"answers": {"text": [], "answer_start": []}}

    def rewrite(self, row: Row, change: Change, options: Any) -> Row | None:
        """Return a row with the question changed, and the context outside of its answers, which move along."""
        answers = row["answers"]
        spans = [
            (start, start + len(text)) for text, start in zip(answers["text"], answers["answer_start"], strict=True)
        ]
        question, context = change(row["question"], ()).text, change(row["context"], spans)
        if (question, context.text) == (row["question"], row["context"]):
            return None
        starts = [context.place(*span)[0] for span in spans]
        answers = {"text": answers["text"], "answer_start": starts}
        return {**row, "question": question, "context": context.text, "answers": answers}

    def strata(self, row: Row) -> str:
        """Return whether there is an answer: a split keeps the share of both."""
        return "with" if row["answers"]["text"] else "without"

    def target_count(self, features: Features) -> int:
        """Return 2: the start and the end of a window's answer."""
        return 2

    def decisions(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Decisions:
        """Return the choices of start and end of each window, among the places that may be one.

        Padding and the question take no part, so a window's loss does not depend on the batch that it is in.
        """
        import torch

        places = torch.stack([targets["start_positions"], targets["end_positions"]], dim=1).reshape(-1)
        logits = torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=1).flatten(0, 1).float()
        allowed = (targets["candidates"] == 1).repeat_interleave(2, dim=0)
        counts = places != IGNORED
        lowest = torch.finfo(logits.dtype).min
        return Decisions(logits.masked_fill(~allowed, lowest)[counts], places[counts])

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], label_smoothing: float) -> Tensor:
        """Return the cross entropy of start and end, SUMMED over the windows; smoothing spreads over allowed places."""
        import torch

        logits, places = self.decisions(outputs, targets)
        chances = torch.log_softmax(logits, dim=-1)
        allowed = logits > torch.finfo(logits.dtype).min
        right = chances.gather(1, places.reshape(-1, 1)).squeeze(1)
        even = chances.masked_fill(~allowed, 0.0).sum(dim=-1) / allowed.sum(dim=-1)
        return ((label_smoothing - 1) * right - label_smoothing * even).sum()


def _with_answers(values: Row) -> Row:
    answers = values.get("answers")
    return {**values, "answers": None if answers is None else canonical(answers, "answers")}


def _with_one_answer(values: Row) -> Row:
    row = {name: values[name] for name in ("question", "context")}
    return {**row, "answers": single(values) if "answer" in values else None}


def _windows(row: Row, encoding: Encoding, context: Context) -> Iterator[Features]:
    """Yield the windows of a row: each has the question, and so much of the context as there is room for."""
    options = context.options
    sides = np.array([-1 if side is None else side for side in encoding.sequence_ids])
    pieces = np.flatnonzero(sides == 1)
    first, last = (int(pieces[0]), int(pieces[-1]) + 1) if len(pieces) else (len(sides) - 1, len(sides) - 1)
    room = options.max_length - (len(sides) - (last - first))
    if room < min(ROOM, last - first):
        raise UserError(
            f'task.max_length is {options.max_length}, but the question "{row["question"][:LONGEST_QUOTE]}..." takes '
            f"{int(np.sum(sides == 0))} tokens and leaves too few for the context; raise it, or ask in fewer words"
        )
    values = context.tokenizer.features(encoding)
    places = np.where((sides == 1)[:, None], np.array(encoding.offsets), 0)
    values |= {"starts": places[:, 0].tolist(), "ends": places[:, 1].tolist()}
    answer = _answer(row, places, pieces)
    for begin, end in _cuts(first, last, room, options.stride):
        features = {name: column[:first] + column[begin:end] + column[last:] for name, column in values.items()}
        if answer is not None:
            null = _null_place(features["input_ids"], context)
            inside = begin <= answer[0] and answer[1] < end
            span = [piece - begin + first for piece in answer] if inside else [null, null]
            features |= {"start_positions": span[:1], "end_positions": span[1:]}
            features["candidates"] = [int(stop > 0) for stop in features["ends"]]
            features["candidates"][null] = 1
        yield features


def _cuts(first: int, last: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield where windows over the pieces of a context begin and end."""
    step = room - min(stride, room // 2)
    begins = [first, *range(first + step, last - room + step, step)]
    for begin in begins:
        yield begin, min(begin + room, last)


def _answer(row: Row, places: Array, pieces: Array) -> tuple[int, int] | None:
    """Return the first and the last piece of a row's first answer; (-1, -1) if it has none, None if none is known."""
    answers = row.get("answers")
    if answers is None:
        return None
    if not answers["text"]:
        return -1, -1
    start = answers["answer_start"][0]
    end = start + len(answers["text"][0])
    found = pieces[(places[pieces, 0] < end) & (places[pieces, 1] > start)]
    return (int(found[0]), int(found[-1])) if len(found) else (-1, -1)


def _null_place(ids: Sequence[int], context: Context) -> int:
    """Return the place that stands for no answer: that of the classification token, or the first."""
    token = context.tokenizer.id("cls")
    return ids.index(token) if token in ids else 0
