"""Texts alone: a model learns to tell words that are masked in them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from backend.errors import UserError
from backend.interfaces import (
    IGNORED,
    Column,
    Context,
    Features,
    Outputs,
    Part,
    Prediction,
    Report,
    Row,
    Task,
)
from backend.text.language import likelihood, likelihood_report, merged
from backend.tokenizer import SPECIAL, Tokenizer

if TYPE_CHECKING:
    from backend.interfaces import Array

MASK = re.compile(r"\[MASK\]|<mask>")  # what the user writes; the model's own mask may be another
WORD = re.compile(r"\S+")
SUBWORD = "##"  # a WordPiece that goes on with the word before it
MASKED, RANDOM = 0.8, 0.1  # of the chosen tokens; the rest stay as they are (BERT, section 3.1)
LIKELIEST = 5


class MaskedLanguageModelling(Task):
    """Texts alone: a model learns to tell words that are masked in them."""

    title = "Masked language modelling"
    auto_model = "AutoModelForMaskedLM"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="text", description="The text; to predict: with [MASK] for each token to be told."),
    )
    files: ClassVar[Mapping[str, str]] = {".txt": "text", "/": "text"}
    rewritable = ""
    metric = "perplexity"
    lower_is_better = True
    max_drop = 0.05
    view = "fill"

    class Options(Task.Options):
        """Settings of masked language modelling."""

        name: Literal["masked-language-modelling"] = "masked-language-modelling"
        max_length: int = Field(256, ge=8, description="Tokens of an example; texts are joined and cut to it.")
        mask_share: float = Field(0.15, gt=0, le=0.9, description="Share of the tokens that the model has to tell.")

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield an empty text, and one that is masked already."""
        yield from super().input_faults(row)
        if MASK.search(str(row.get("text") or "")):
            yield "text", "holds a mask; training masks texts itself: write the word, or remove the row"

    def input_faults(self, row: Row) -> Iterator[tuple[str, str]]:
        """Yield an empty text, and one without a mask."""
        found = list(super().input_faults(row))
        yield from found
        if not found and not MASK.search(row["text"]):
            yield "text", "has no mask; write [MASK] where the model shall tell a word"

    def question(self, row: Row) -> Row:
        """Return a text with the word in its middle masked, or the character if it has no spaces."""
        words = list(WORD.finditer(row["text"]))
        middle = words[len(words) // 2]
        start, end = middle.span() if len(words) > 1 else (len(row["text"]) // 2, len(row["text"]) // 2 + 1)
        return {"text": f"{row['text'][:start]}[MASK]{row['text'][end:]}"}

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode the texts in windows; in those without masks of their own, mask what their content decides."""
        tokenizer, options = context.tokenizer, context.options
        own_mask = tokenizer.token(_mask_id(tokenizer))
        texts = [MASK.sub(lambda _: own_mask, row["text"]) for row in rows]
        encoded = []
        for row, encodings in zip(rows, tokenizer.windows(texts, options.max_length, 0), strict=True):
            windows = [tokenizer.features(encoding) for encoding in encodings]
            to_fill = MASK.search(row["text"])  # a training text has no mask: `faults` refuses it
            encoded.append(windows if to_fill else [_masked_by_content(window, context) for window in windows])
        return encoded

    def pack(self, windows: Sequence[Features], context: Context) -> list[Features]:
        """Join the texts, an end between them, and cut them to examples of one size."""
        head, tail = _frame(context.tokenizer)
        between = tail[:1]
        stream: list[int] = []
        for window in windows:
            ids = _restored(window)
            stream += [*ids[len(head) : len(ids) - len(tail)], *between]
        size = context.options.max_length - len(head) - len(tail)
        stream = stream[: len(stream) - len(between)]
        blocks = ([*head, *stream[start : start + size], *tail] for start in range(0, len(stream), size))
        fill = {"attention_mask": 1, "token_type_ids": 0}
        return [
            _masked_by_content(
                {
                    name: ids if name == "input_ids" else [fill[name]] * len(ids)
                    for name in context.tokenizer.input_names
                },
                context,
            )
            for ids in blocks
        ]

    def vary(self, features: Features, random: np.random.Generator, context: Context) -> Features:
        """Mask other tokens of the text, as many as before."""
        count = self.target_count(features)
        return _masked({**features, "input_ids": _restored(features)}, count, random, context.tokenizer)

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return the likelihood of the masked tokens; of a row to predict, the likeliest tokens for each mask."""
        logits = outputs["logits"][: len(features["input_ids"])]
        if "labels" in features:
            return likelihood(logits, np.asarray(features["labels"], dtype=np.int64))
        masks = np.flatnonzero(np.asarray(features["input_ids"]) == _mask_id(context.tokenizer))
        return [_likeliest(logits[place], context.tokenizer) for place in masks]

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the text with its masks filled and the likeliest tokens for each; or the likelihood of a text."""
        if isinstance(parts[0], dict):
            return merged(parts)
        masks = [mask for part in parts for mask in part]
        return {"text": _filled(row["text"], [mask[0]["token"] for mask in masks]), "masks": masks}

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return perplexity over the masked tokens, and the share that the model finds the likeliest."""
        return likelihood_report(predictions, "masked_accuracy")


def _mask_id(tokenizer: Tokenizer) -> int:
    mask = tokenizer.id("mask")
    if mask is None:
        raise UserError("the model's tokenizer has no mask token; take an encoder such as BERT or RoBERTa")
    return mask


def _special_ids(tokenizer: Tokenizer) -> list[int]:
    found = (tokenizer.id(role) for role in SPECIAL)
    return [number for number in found if number is not None]


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before and after a text."""
    (encoding,) = tokenizer.whole(["a"])
    own = encoding.special_tokens_mask
    first, last = own.index(0), len(own) - own[::-1].index(0)
    return encoding.ids[:first], encoding.ids[last:]


def _restored(features: Features) -> list[int]:
    """Return the tokens as they were before they were masked."""
    pairs = zip(features["input_ids"], features["labels"], strict=True)
    return [token if label == IGNORED else label for token, label in pairs]


def _masked_by_content(window: Features, context: Context) -> Features:
    """Mask a share of the tokens; the same text is always masked in the same way, so that evaluations compare."""
    ids = np.asarray(window["input_ids"], dtype=np.int64)
    count = int((~np.isin(ids, _special_ids(context.tokenizer))).sum())
    random = np.random.default_rng(zlib.crc32(ids.tobytes()))
    chosen = min(count, max(1, round(context.options.mask_share * count)))
    return _masked(window, chosen, random, context.tokenizer)


def _masked(features: Features, count: int, random: np.random.Generator, tokenizer: Tokenizer) -> Features:
    """Make so many tokens targets: of them 80 in 100 are masked, 10 replaced by any other token, 10 left."""
    ids: Array = np.asarray(features["input_ids"], dtype=np.int64)
    special = _special_ids(tokenizer)
    places = random.choice(np.flatnonzero(~np.isin(ids, special)), size=count, replace=False)
    labels = np.full(len(ids), IGNORED)
    labels[places] = ids[places]
    chance = random.random(count)
    others = random.integers(tokenizer.size, size=count)
    others = np.where(np.isin(others, special), ids[places], others)
    changed = np.where(chance < MASKED + RANDOM, others, ids[places])
    ids[places] = np.where(chance < MASKED, _mask_id(tokenizer), changed)
    return {**features, "input_ids": ids.tolist(), "labels": labels.tolist()}


def _likeliest(logits: Array, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    scores = np.asarray(logits, dtype=np.float64)
    scores = np.exp(scores - scores.max())
    scores /= scores.sum()
    best = np.argsort(-scores, kind="stable")[:LIKELIEST]
    return [{"token": _shown(int(number), tokenizer), "score": float(scores[number])} for number in best]


def _shown(number: int, tokenizer: Tokenizer) -> str:
    """Return the text of a token; special ones have none, so that their name stands for them."""
    return tokenizer.text([number]).strip() or tokenizer.token(number)


def _filled(text: str, tokens: Sequence[str]) -> str:
    """Put tokens in the place of masks; a piece of a word is joined to what is before it."""
    pieces = MASK.split(text)
    filled = pieces[0]
    for token, piece in zip(tokens, pieces[1:], strict=False):
        joined = token.startswith(SUBWORD)
        filled = (filled.rstrip() + token.removeprefix(SUBWORD) if joined else filled + token) + piece
    return filled
