"""What the tasks share that learn to tell tokens: the likelihood of a text, and many texts in one example."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.errors import UserError
from backend.interfaces import IGNORED, Array, Decisions, Features, Prediction, Report
from backend.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

CHUNK = 256  # positions whose probabilities are held in memory at a time
LARGEST = 700.0  # e to the power of more is no double

Likelihood = dict[str, float]  # "nll": of all targets together; "tokens": how many; "hits": how many were likeliest


def likelihood(logits: Array, targets: Array) -> Likelihood:
    """Return how likely targets are, and how many of them are the likeliest; logits and targets are of like length."""
    nll, hits = 0.0, 0
    places = np.flatnonzero(targets != IGNORED)
    for start in range(0, len(places), CHUNK):
        chosen = places[start : start + CHUNK]
        scores = np.asarray(logits[chosen], dtype=np.float64)
        wanted = targets[chosen]
        scores -= scores.max(axis=-1, keepdims=True)
        nll += float((np.log(np.exp(scores).sum(axis=-1)) - scores[np.arange(len(chosen)), wanted]).sum())
        hits += int((scores.argmax(axis=-1) == wanted).sum())
    return {"nll": nll, "tokens": len(places), "hits": hits}


def next_token_likelihood(logits: Array, labels: Sequence[int]) -> Likelihood:
    """Return the likelihood of the tokens of a text that count, each told from those before it."""
    return likelihood(logits[: len(labels) - 1], np.asarray(labels[1:], dtype=np.int64))


def merged(parts: Sequence[Mapping[str, Any]]) -> Prediction:
    """Return the likelihood of a row from those of its windows."""
    return {key: sum(part[key] for part in parts) for key in ("nll", "tokens", "hits")}


def likelihood_report(predictions: Sequence[Prediction], accuracy: str) -> Report:
    """Return perplexity, mean loss and the share of likeliest tokens, under the name that the task gives it."""
    total = merged(predictions)
    loss = total["nll"] / max(total["tokens"], 1)
    metrics = {
        "perplexity": math.exp(min(loss, LARGEST)),
        "loss": loss,
        accuracy: total["hits"] / max(total["tokens"], 1),
    }
    return Report(metrics=metrics)


def stop_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return what ends a text: the model's own tokens, or the [SEP] of a decoder with the vocabulary of a BERT."""
    separator = tokenizer.id("sep")
    return tokenizer.stop_ids or (() if separator is None else (separator,))


def next_token_decisions(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Decisions:
    """Return the tokens that count as choices, each told from those before it."""
    labels = targets["labels"][:, 1:]  # of a part of a row that goes on, the label of the token after it is there too
    counts = labels != IGNORED
    # Only the logits of what counts are turned to fp32: a vocabulary is wide, and most of a chat may not count.
    return Decisions(outputs["logits"][:, : labels.shape[1]][counts].float(), labels[counts])


def packed(windows: Sequence[Features], size: int) -> list[Features]:
    """Join texts to examples of up to `size` tokens; positions that begin anew keep them apart in the model."""
    bins: list[list[Features]] = []
    space: list[int] = []
    for window in sorted(windows, key=lambda one: -len(one["input_ids"])):  # the largest first fill bins best
        length = len(window["input_ids"])
        place = next((number for number, free in enumerate(space) if free >= length), None)
        if place is None:
            place = len(bins)
            bins.append([])
            space.append(size)
        bins[place].append(window)
        space[place] -= length
    return [_joined(one) for one in bins]


def _joined(windows: Sequence[Features]) -> Features:
    return {
        "input_ids": [token for window in windows for token in window["input_ids"]],
        "position_ids": [place for window in windows for place in range(len(window["input_ids"]))],
        "labels": [label for window in windows for label in window["labels"]],
    }


def prepare_decoder(model: PreTrainedModel, *, packing: bool) -> None:
    """Make sure that a model tells each token from those before it in the same text, and from no other.

    Raises UserError if it sees what it is to tell, or cannot keep apart the texts of one example.
    """
    from torch import nn

    # transformers keeps texts apart by their positions only while there is no cache of keys and values.
    body = model.base_model
    assert isinstance(body, nn.Module)  # noqa: S101 - transformers types it as anything
    body.register_forward_pre_hook(_without_cache, with_kwargs=True)
    was_training = model.training
    model.train(False)
    try:
        if not _is_causal(model):
            raise UserError(
                "the model sees the tokens that it is to tell: it is no decoder; take a model that writes text, such "
                "as GPT-2, SmolLM2 or Qwen"
            )
        if packing and not _keeps_apart(model):
            raise UserError(
                "the model cannot keep apart several texts in one example; set task.packing to false, or take another"
            )
    finally:
        model.train(was_training)


def _without_cache(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    packs = kwargs.get("position_ids") is not None and kwargs.get("attention_mask") is None
    if packs and kwargs.get("past_key_values") is None:
        kwargs = {**kwargs, "use_cache": False}
    return args, kwargs


def _is_causal(model: PreTrainedModel) -> bool:
    one, other = (_logits(model, ids) for ids in ([1, 2, 3, 4], [1, 2, 3, 5]))
    return _alike(one[:3], other[:3])


def _keeps_apart(model: PreTrainedModel) -> bool:
    alone = _logits(model, [4, 5, 6])
    try:
        together = _logits(model, [1, 2, 3, 4, 5, 6], [0, 1, 2, 0, 1, 2])
    except TypeError:  # it takes no positions
        return False
    return _alike(alone, together[3:])


def _logits(model: PreTrainedModel, ids: Sequence[int], positions: Sequence[int] | None = None) -> Tensor:
    import torch

    inputs = {"input_ids": torch.tensor([ids], device=model.device)}
    if positions is None:
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    else:
        inputs["position_ids"] = torch.tensor([positions], device=model.device)
    with torch.no_grad():
        logits: Tensor = model(**inputs).logits[0].float()
    return logits


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= 1e-4 * one.abs().max())
