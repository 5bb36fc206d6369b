"""The assistant's next words in a conversation, and the answer to an instruction."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field
from tokenizers import Encoding

from backend.interfaces import (
    GENERATED,
    IGNORED,
    Column,
    Context,
    Decisions,
    Features,
    Generation,
    Layout,
    Outputs,
    Part,
    Prediction,
    Report,
    Row,
    Table,
    Task,
    Unreadable,
)
from backend.text.chat import Chat, Rendered, chat_of
from backend.text.cjk import close_up
from backend.text.conversations import ASSISTANT, MESSAGES, SYSTEM, USER, Message, conversation, layouts
from backend.text.language import (
    likelihood_report,
    next_token_decisions,
    next_token_likelihood,
    packed,
    prepare_decoder,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from backend.text.edits import Change

EXAMPLES = 5


class Dialogue(Task):
    """The assistant's next words in a conversation, and the answer to an instruction."""

    title = "Dialogue and instructions"
    architecture = "decoder"
    auto_model = "AutoModelForCausalLM"
    columns: ClassVar[tuple[Column, ...]] = (MESSAGES,)
    extras: ClassVar[tuple[str, ...]] = ("prompt",)
    metric = "perplexity"
    lower_is_better = True
    max_drop = 0.05
    view = "chat"

    class Options(Task.Options):
        """Settings of dialogue."""

        name: Literal["dialogue"] = "dialogue"
        max_length: int = Field(
            512, ge=16, description="Tokens of a conversation; what is longer ends after the last answer that fits."
        )
        packing: bool = Field(
            True, description="Put several short conversations into one example; the model keeps them apart."
        )
        rouge: bool = Field(
            False, description="Evaluations also write the last answer of each row and compare it (slow)."
        )
        generation: Generation = Field(Generation(max_new_tokens=256), description="How answers are written.")

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The forms of conversations that are understood."""
        return layouts()

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the turns, and that there is nothing to learn."""
        yield from _faults(row, ASSISTANT, "that is what is to be learned: add the answer, or remove the last turn")

    def input_faults(self, row: Row) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the turns, and that there is nothing to answer."""
        yield from _faults(row, USER, "that is what is to be answered: add what the user says, or remove the last turn")

    def question(self, row: Row) -> Row:
        """Return the conversation without its last answer."""
        return {MESSAGES.name: row[MESSAGES.name][:-1]}

    def rewrite(self, row: Row, change: Change, options: Any) -> Row | None:
        """Return a conversation in which the user says the same a little differently."""
        before = row[MESSAGES.name]
        after = [{**one, "content": change(one["content"], ()).text} if one["role"] == USER else one for one in before]
        return {**row, MESSAGES.name: after} if after != before else None

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode conversations that end with an answer to learn from, and those that end with a question to answer."""
        chat = chat_of(context.tokenizer)
        conversations = [conversation(row[MESSAGES.name]) for row in rows]
        learned = [number for number, one in enumerate(conversations) if one[-1]["role"] == ASSISTANT]
        rendered = [chat.with_replies(conversations[number]) for number in learned]
        encodings = context.tokenizer.whole([one.text for one in rendered], special_tokens=False)
        windows = {
            number: _to_learn(one, encoding, chat.appended, context.options)
            for number, one, encoding in zip(learned, rendered, encodings, strict=True)
        }
        return [
            [windows[number] if number in windows else _to_answer(messages, chat, context)]
            for number, messages in enumerate(conversations)
        ]

    def pack(self, windows: Sequence[Features], context: Context) -> list[Features]:
        """Put several conversations into one example, if the options say so."""
        options = context.options
        return packed(windows, options.max_length) if options.packing else list(windows)

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return the written answer, and how likely the answers of the row are."""
        part: dict[str, Any] = {}
        if "labels" in features and "logits" in outputs:
            labels = features["labels"]
            part = {**next_token_likelihood(outputs["logits"], labels), "answers": len(_replies(labels))}
        if GENERATED in outputs:
            written = [int(token) for token in outputs[GENERATED]]
            part["text"] = close_up(context.tokenizer.text(written).strip())
        return part

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return what the only window of a row says."""
        (part,) = parts
        return dict(part)

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return the perplexity of the answers, the share of likeliest tokens and, if answers were written, ROUGE."""
        report = likelihood_report(predictions, "token_accuracy")
        if not all("text" in prediction for prediction in predictions):
            return report
        from backend.metrics.text import rouge_metrics

        asked, expected = zip(*map(_expected, rows, predictions), strict=True)
        written = [prediction["text"] for prediction in predictions]
        examples = tuple(zip(asked, written, expected, strict=True))[:EXAMPLES]
        table = Table(title="Examples", columns=("question", "answer", "expected"), rows=examples)
        return Report(metrics=report.metrics | rouge_metrics(written, expected), tables=(table,))

    def generation(self, options: Any, *, evaluating: bool) -> Generation | None:
        """Return the user's settings, without chance in an evaluation; it writes only if ROUGE is wanted."""
        if evaluating and not options.rouge:
            return None
        settings: Generation = options.generation
        fitting = {"max_new_tokens": _longest_answer(options), "do_sample": settings.do_sample and not evaluating}
        return settings.model_copy(update=fitting)

    def prompt(self, features: Features) -> Features:
        """Return what comes before the last answer; of a row to predict, all."""
        ids = features.get("prompt", features["input_ids"])
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}

    def stop_ids(self, context: Context) -> tuple[int, ...]:
        """Return the tokens that end a turn of the assistant, or a text."""
        return chat_of(context.tokenizer).stop_ids

    def prepare(self, model: PreTrainedModel, context: Context) -> None:
        """Make sure that the model is a decoder, and that it keeps packed conversations apart."""
        prepare_decoder(model, packing=context.options.packing)

    def decisions(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Decisions:
        """Return the tokens that count, each told from those before it."""
        return next_token_decisions(outputs, targets)


def _faults(row: Row, last: str, advice: str) -> Iterator[tuple[str, str]]:
    try:
        messages = conversation(row.get(MESSAGES.name))
    except Unreadable as error:
        yield error.column, error.problem
        return
    if messages[-1]["role"] != last:
        yield MESSAGES.name, f"ends with a turn of the {messages[-1]['role']}, not of the {last}; {advice}"


def _longest_answer(options: Any) -> int:
    """Return how many tokens may be written, so that as many are left for the question."""
    return min(int(options.generation.max_new_tokens), int(options.max_length) // 2)


def _to_learn(rendered: Rendered, encoding: Encoding, appended: Sequence[int], options: Any) -> Features:
    """Return a conversation of which only the assistant's tokens count."""
    starts = [start for start, _ in encoding.offsets]
    ids, labels = [*encoding.ids, *appended], [IGNORED] * len(starts)
    for start, end in rendered.replies:
        said = slice(bisect_left(starts, start), bisect_left(starts, end))
        labels[said] = ids[said]
    labels = [IGNORED, *labels[1:], *appended]  # nothing comes before the first token that could tell it
    kept = _fitting(labels, options.max_length)
    ids, labels = ids[kept], labels[kept]
    features = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [IGNORED, *labels[1:]]}
    if options.rouge:
        room = options.max_length - _longest_answer(options)
        last = _replies(labels)[-1].start
        features["prompt"] = ids[max(0, last - room) : last]
    return features


def _fitting(labels: Sequence[int], size: int) -> slice:
    """Return which tokens are kept: up to the last answer that fits, or the start of the first and what it follows."""
    if len(labels) <= size:
        return slice(0, len(labels))
    replies = _replies(labels)
    ends = [reply.stop for reply in replies if reply.stop <= size]
    if ends:
        return slice(0, ends[-1])
    first = replies[0]
    start = max(0, first.start + min(len(first), size // 2) - size)
    return slice(start, start + size)


def _replies(labels: Sequence[int]) -> list[range]:
    """Return where the answers are: the runs of tokens that count."""
    runs = groupby(range(len(labels)), key=lambda place: labels[place] != IGNORED)
    places = [list(run) for counts, run in runs if counts]
    return [range(run[0], run[-1] + 1) for run in places]


def _to_answer(messages: Sequence[Message], chat: Chat, context: Context) -> Features:
    """Return a conversation up to where the answer begins; the oldest turns are left out if they do not fit."""
    room = context.options.max_length - _longest_answer(context.options)
    system = [message for message in messages[:1] if message["role"] == SYSTEM]
    turns = list(messages[len(system) :])
    while True:
        text = chat.render([*system, *turns], ask=True)
        (encoding,) = context.tokenizer.whole([text], special_tokens=False)
        if len(encoding.ids) <= room or len(turns) < 3:
            ids = encoding.ids[-room:]
            return {"input_ids": ids, "attention_mask": [1] * len(ids)}
        turns = turns[2:]


def _expected(row: Row, prediction: Prediction) -> tuple[str, str]:
    """Return the last answer that the window of a row holds, and what it answers."""
    messages = conversation(row[MESSAGES.name])
    places = [place for place, message in enumerate(messages) if message["role"] == ASSISTANT]
    place = places[prediction.get("answers", len(places)) - 1]
    return messages[place - 1]["content"], messages[place]["content"]
