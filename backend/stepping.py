"""torch models as step models: what a generation takes of a trained model, on whatever device it is."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput

from backend.errors import UserError
from backend.generation import Batch, StepModel, left_padded, prompts
from backend.interfaces import Array
from backend.tokenizer import Tokenizer


class _Steps:
    """What both kinds of models have in common."""

    def __init__(self, model: Any, config: PreTrainedConfig) -> None:
        self._model = model
        self._config = config
        self.longest: int | None = getattr(config, "max_position_embeddings", None)

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._model.device
        return device

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


class DecoderSteps(_Steps):
    """A causal language model. The prompts of a batch may differ in length.

    Within, they are padded on the left: the new tokens of all rows come to stand one below the other, next to their
    prompts, so that a window of attention that slides over the cache sees what it sees for a row alone.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, model.config.get_text_config(decoder=True))
        taken = inspect.signature(model.forward).parameters
        self._positioned = "position_ids" in taken
        self._choosy = "logits_to_keep" in taken

    def written(self, batch: Batch) -> list[list[int]]:
        """Return the prompts."""
        return prompts(batch)

    @torch.no_grad()
    def start(self, batch: Batch, beams: int, room: int) -> Array:
        """Read the prompts once each."""
        ids, mask = left_padded(batch)
        self._cache = DynamicCache(config=self._config)
        self._mask = self._tensor(mask)
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        logits = self._forward(self._tensor(ids), positions)
        self._next = positions[:, -1:] + 1
        if beams == 1:
            return logits
        origin = np.repeat(np.arange(len(ids)), beams)
        self._reorder(self._tensor(origin))
        repeated: Array = logits[origin]
        return repeated

    @torch.no_grad()
    def step(self, tokens: Array, origin: Array) -> Array:
        """Append a token to each sequence."""
        if not np.array_equal(origin, np.arange(len(self._mask))):
            self._reorder(self._tensor(origin))
        self._mask = torch.cat((self._mask, torch.ones_like(self._mask[:, :1])), -1)
        last = None if self.longest is None else self.longest - 1  # a row that has ended may go on beyond it
        logits = self._forward(self._tensor(tokens)[:, None], self._next.clamp(max=last))
        self._next = self._next + 1
        return logits

    def _reorder(self, origin: torch.Tensor) -> None:
        self._cache.reorder_cache(origin)  # type: ignore[arg-type]
        self._mask, self._next = self._mask[origin], self._next[origin]

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> Array:
        inputs: dict[str, Any] = {"position_ids": positions} if self._positioned else {}
        if self._choosy:
            inputs["logits_to_keep"] = 1
        found = self._model(
            input_ids=ids, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, **inputs
        )
        return _last(found.logits)


class EncoderDecoderSteps(_Steps):
    """A model that reads its input once and then writes, beginning with `start_id`."""

    def __init__(self, model: Any, start_id: int) -> None:
        super().__init__(model, model.config.get_text_config(decoder=True))
        self._start_id = start_id

    def written(self, batch: Batch) -> list[list[int]]:
        """Return the token with which every row begins."""
        return [[self._start_id] for _ in batch["input_ids"]]

    @torch.no_grad()
    def start(self, batch: Batch, beams: int, room: int) -> Array:
        """Read the inputs once each."""
        mask = self._tensor(batch["attention_mask"])
        found = self._model.get_encoder()(input_ids=self._tensor(batch["input_ids"]), attention_mask=mask)
        self._states, self._mask = found.last_hidden_state, mask
        self._cache = EncoderDecoderCache(DynamicCache(config=self._config), DynamicCache(config=self._config))
        logits = self._forward(torch.full_like(mask[:, :1], self._start_id))
        if beams == 1:
            return logits
        origin = np.repeat(np.arange(len(mask)), beams)
        places = self._tensor(origin)
        self._cache.reorder_cache(places)  # type: ignore[arg-type]
        self._states, self._mask = self._states[places], self._mask[places]
        repeated: Array = logits[origin]
        return repeated

    @torch.no_grad()
    def step(self, tokens: Array, origin: Array) -> Array:
        """Append a token to each sequence."""
        own = self._cache.self_attention_cache
        if not np.array_equal(origin, np.arange(len(origin))):
            own.reorder_cache(self._tensor(origin))  # type: ignore[arg-type]  # all beams of a row read the same input
        if self.longest is not None and self._cache.get_seq_length() >= self.longest:
            own.crop(-1)  # a row that has ended may go on beyond it
        return self._forward(self._tensor(tokens)[:, None])

    def _forward(self, ids: torch.Tensor) -> Array:
        found = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._states),
            attention_mask=self._mask,
            decoder_input_ids=ids,
            past_key_values=self._cache,
            use_cache=True,
        )
        return _last(found.logits)


def _last(logits: torch.Tensor) -> Array:
    array: Array = logits[:, -1].float().cpu().numpy()
    return array


def steps(architecture: str, model: Any, tokenizer: Tokenizer) -> StepModel:
    """Return a model as one that writes token by token, with nothing written yet."""
    if architecture == "decoder":
        return DecoderSteps(model)
    if tokenizer.start_id is None:
        raise UserError("the model does not say with which token it begins to write (decoder_start_token_id)")
    return EncoderDecoderSteps(model, tokenizer.start_id)
