"""What the tasks share that read a text and then write one: translation and summarization."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from backend.errors import UserError
from backend.interfaces import (
    GENERATED,
    Column,
    Context,
    Features,
    Generation,
    Outputs,
    Part,
    Prediction,
    Row,
    Table,
    Task,
)
from backend.text.cjk import close_up
from backend.text.language import likelihood

EXAMPLES = 5


class Seq2Seq(Task):
    """A text in, a text out."""

    architecture = "encoder-decoder"
    auto_model = "AutoModelForSeq2SeqLM"
    view = "text"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="source", description="The text to read."),
        Column(name="target", role="target", description="The text to write."),
    )

    class Options(Task.Options):
        """The settings of a task that reads a text and writes one."""

        max_length: int = Field(256, ge=4, description="Tokens of a source; what is longer is cut.")
        max_target_length: int = Field(128, ge=4, description="Tokens of a target in training; what is longer is cut.")
        prefix: str = Field("", description='Stands before every source, as T5 wants it: "summarize: ".')
        evaluation_beams: int = Field(1, ge=1, le=32, description="Beams in evaluations; 1 is the fastest.")
        generation: Generation = Field(
            Generation(max_new_tokens=128, num_beams=4), description="How answers are written."
        )

    def pair(self, row: Row, options: Any) -> tuple[str, str | None]:
        """Return the source of a row, and its target if it has one."""
        return row["source"], row.get("target") or None

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield an empty source and an empty target."""
        yield from self.input_faults(row)
        if not str(row.get("target") or "").strip():
            yield "target", "is empty; give it a text or remove the row"

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode the sources, and the targets where rows have them, as labels and as what comes before each label."""
        options, tokenizer = context.options, context.tokenizer
        pairs = [self.pair(row, options) for row in rows]
        sources = tokenizer.encodings([options.prefix + source for source, _ in pairs], options.max_length)
        features: list[Features] = [{"input_ids": one.ids, "attention_mask": one.attention_mask} for one in sources]
        stops = self.stop_ids(context)
        start, stop = _begin_and_end(tokenizer.start_id, stops)
        targets = {number: target for number, (_, target) in enumerate(pairs) if target}
        encoded = tokenizer.encodings(list(targets.values()), options.max_target_length)
        for number, encoding in zip(targets, encoded, strict=True):
            ids = encoding.ids[encoding.ids[:1] == [start] :]
            if not ids or ids[-1] not in stops:
                ids = [*ids[: options.max_target_length - 1], stop]
            features[number] |= {"labels": ids, "decoder_input_ids": [start, *ids[:-1]]}
        return [[feature] for feature in features]

    def generation(self, options: Any, *, evaluating: bool) -> Generation | None:
        """Return the user's settings, without chance and with fewer beams for an evaluation."""
        settings: Generation = options.generation
        if evaluating:
            return settings.model_copy(update={"num_beams": options.evaluation_beams, "do_sample": False})
        return settings

    def prompt(self, features: Features) -> Features:
        """Return the source; the first token of an answer is the model's own."""
        return {key: features[key] for key in ("input_ids", "attention_mask")}

    def length(self, features: Features) -> int:
        """Return the tokens of both texts."""
        return len(features["input_ids"]) + len(features.get("decoder_input_ids", ()))

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return the written text and, where the target is known, how unlikely the model finds it."""
        generated = [int(token) for token in outputs[GENERATED]]
        part: dict[str, Any] = {"text": close_up(context.tokenizer.text(generated).strip())}
        if "labels" in features and "logits" in outputs:
            labels = np.asarray(features["labels"])
            part |= likelihood(outputs["logits"][: len(labels)], labels)
        return part

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the text; a source is one window."""
        (part,) = parts
        return dict(part)

    def model_class(self) -> Any:
        """Return the loader that also makes an encoder-decoder of a BERT."""
        from backend.heads.encoder_decoder import EncoderDecoder

        return EncoderDecoder


def _begin_and_end(start: int | None, stops: Sequence[int]) -> tuple[int, int]:
    """Return what comes before the first label, and what ends the labels of a tokenizer that ends no text."""
    if start is None:
        raise UserError(
            "the model does not say which token an answer begins with: "
            'add "decoder_start_token_id" to its config.json, or take another model'
        )
    if not stops:
        raise UserError(
            "the model does not say which token ends an answer: "
            'add "eos_token" to its tokenizer_config.json, or take another model'
        )
    return start, stops[0]


def perplexity(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Return the perplexity over the tokens of all targets, if the predictions know how unlikely they are."""
    tokens = sum(prediction.get("tokens", 0) for prediction in predictions)
    if not tokens:
        return {}
    mean = sum(prediction.get("nll", 0.0) for prediction in predictions) / tokens
    return {"perplexity": math.exp(min(mean, 700.0))}  # beyond that it is no float


def examples(columns: Mapping[str, Sequence[str]]) -> Table:
    """Return a table of the first answers beside what they should be."""
    rows = tuple(zip(*columns.values(), strict=True))
    return Table(title="Examples", columns=tuple(columns), rows=rows[:EXAMPLES])
