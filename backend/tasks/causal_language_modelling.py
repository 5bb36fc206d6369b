"""Texts alone: a model learns to write on as they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Outputs,
    Part,
    Prediction,
    Report,
    Row,
    Task,
)
from backend.text.cjk import close_up
from backend.text.language import (
    likelihood_report,
    merged,
    next_token_decisions,
    next_token_likelihood,
    packed,
    prepare_decoder,
    stop_ids,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class CausalLanguageModelling(Task):
    """Texts alone: a model learns to write on as they do."""

    title = "Causal language modelling"
    architecture = "decoder"
    auto_model = "AutoModelForCausalLM"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="text", description="The text; to predict: what to go on from."),
    )
    files: ClassVar[Mapping[str, str]] = {".txt": "text", "/": "text"}
    extras: ClassVar[tuple[str, ...]] = ("prompt",)
    rewritable = ""
    metric = "perplexity"
    lower_is_better = True
    max_drop = 0.05
    view = "continue"

    class Options(Task.Options):
        """Settings of causal language modelling."""

        name: Literal["causal-language-modelling"] = "causal-language-modelling"
        max_length: int = Field(512, ge=16, description="Tokens of an example; longer texts are cut to several.")
        packing: bool = Field(True, description="Put several short texts into one example; the model keeps them apart.")
        generation: Generation = Field(
            Generation(max_new_tokens=64, do_sample=True, temperature=0.8, top_p=0.95),
            description="How answers are written.",
        )

    def question(self, row: Row) -> Row:
        """Return the first half of a text, to be written on."""
        return {"text": row["text"][: (len(row["text"]) + 1) // 2]}

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode the texts with an end, in windows that share one token, so that each token but the first counts once.

        The last window of a text has its end also as `prompt`, without the token that ends it, to write on from.
        """
        options, ending = context.options, self.stop_ids(context)[:1]
        room = options.max_length - _longest_answer(options)
        encoded = []
        for encoding in context.tokenizer.whole([row["text"] for row in rows]):
            ids = _without_end(encoding)
            prompt = ids[-room:] or [*ending] or [context.tokenizer.pad_id]
            windows = _windows([*ids, *ending] or prompt, options.max_length)
            for number, window in enumerate(windows, start=1):
                # Only what follows the end of a text is an answer; the other windows of a row are asked in vain.
                window["prompt"] = prompt if number == len(windows) else prompt[-1:]
            encoded.append(windows)
        return encoded

    def pack(self, windows: Sequence[Features], context: Context) -> list[Features]:
        """Put several texts into one example, if the options say so."""
        options = context.options
        return packed(windows, options.max_length) if options.packing else list(windows)

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return what was written, and how likely the text is."""
        part: dict[str, Any] = {}
        if "logits" in outputs:
            part = dict(next_token_likelihood(outputs["logits"], features["labels"]))
        if GENERATED in outputs:
            part["text"] = close_up(context.tokenizer.text([int(token) for token in outputs[GENERATED]]))
        return part

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return what follows the last window, and the likelihood of all."""
        prediction: Prediction = merged(parts) if "nll" in parts[0] else {}
        return {**prediction, **{key: parts[-1][key] for key in ("text",) if key in parts[-1]}}

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return perplexity, and the share of tokens that the model finds the likeliest."""
        return likelihood_report(predictions, "token_accuracy")

    def generation(self, options: Any, *, evaluating: bool) -> Generation | None:
        """Return the user's settings; an evaluation writes nothing."""
        if evaluating:
            return None
        settings: Generation = options.generation
        return settings.model_copy(update={"max_new_tokens": _longest_answer(options)})

    def prompt(self, features: Features) -> Features:
        """Return the end of the text, as much as leaves room for what follows."""
        ids = features["prompt"]
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}

    def stop_ids(self, context: Context) -> tuple[int, ...]:
        """Return the tokens that end a text."""
        return stop_ids(context.tokenizer)

    def prepare(self, model: PreTrainedModel, context: Context) -> None:
        """Make sure that the model is a decoder, and that it keeps packed texts apart."""
        prepare_decoder(model, packing=context.options.packing)

    def decisions(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Decisions:
        """Return the tokens that count, each told from those before it."""
        return next_token_decisions(outputs, targets)


def _without_end(encoding: Encoding) -> list[int]:
    """Return the tokens of a text without those that the tokenizer puts after it."""
    ids, added = list(encoding.ids), list(encoding.special_tokens_mask)
    while added and added[-1]:
        ids.pop()
        added.pop()
    return ids


def _windows(ids: Sequence[int], size: int) -> list[Features]:
    """Cut a text to windows of which each begins with the last token of the one before."""
    parts = [list(ids[start : start + size]) for start in range(0, max(len(ids) - 1, 1), size - 1)]
    return [{"input_ids": part, "attention_mask": [1] * len(part), "labels": [IGNORED, *part[1:]]} for part in parts]


def _longest_answer(options: Any) -> int:
    """Return how many tokens may be written, so that as many are left for the text."""
    return min(int(options.generation.max_new_tokens), int(options.max_length) // 2)
