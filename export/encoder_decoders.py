"""A model that reads and then writes to two fp32 graphs: one reads the input once, the other writes step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from backend.model import load_saved_as
from export.caches import LENGTH, SOURCE, WRITTEN, TensorLists, Tensors, describe, export, from_cache, to_cache
from export.interfaces import CROSS, DECODER, ENCODER, PAST, PRESENT, cache_names
from export.to_onnx import quietly


class _Reader(torch.nn.Module):
    """From the input to the keys and values that every layer of the decoder looks the input up with."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors, caches: TensorLists) -> tuple[torch.Tensor, ...]:
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        # What is written here does not matter: the exporter drops what the results do not need.
        self.model(**inputs, decoder_input_ids=inputs["input_ids"][:, :2], past_key_values=cache, use_cache=True)
        return tuple(from_cache(cache.cross_attention_cache))


class _Writer(torch.nn.Module):
    """From tokens, what was written before them and the keys and values of the input to the next token."""

    def __init__(self, model: PreTrainedModel, width: int) -> None:
        super().__init__()
        self.model = model
        self.width = width

    def forward(self, inputs: Tensors, caches: TensorLists) -> tuple[torch.Tensor, ...]:
        cache = EncoderDecoderCache(to_cache(caches[PAST]), to_cache(caches[CROSS]))
        cache.is_updated = dict.fromkeys(range(len(cache)), True)
        mask = inputs["encoder_attention_mask"]
        # Asked for by the model, and not looked at: the cache has what is computed from it.
        states = BaseModelOutput(last_hidden_state=mask[:, :, None].expand(-1, -1, self.width).to(torch.float32))
        found = self.model(
            encoder_outputs=states,
            attention_mask=mask,
            decoder_input_ids=inputs["decoder_input_ids"],
            past_key_values=cache,
            use_cache=True,
        )
        return (found.logits, *from_cache(cache.self_attention_cache))


def write(model_dir: Path, folder: Path) -> None:
    """Write encoder.onnx and decoder.onnx."""
    with quietly():
        model: Any = load_saved_as(model_dir, AutoModelForSeq2SeqLM)
    if hasattr(model.config, "relative_attention_num_buckets") and model.config._attn_implementation == "sdpa":  # noqa: SLF001 - it has no other name
        model.set_attn_implementation("eager")  # the exporter cannot take apart attention that is given a float mask
    ids = torch.tensor([[1, 2, 3, 1, 2], [3, 2, 1, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    with torch.no_grad():
        found = model(
            input_ids=ids, attention_mask=mask, decoder_input_ids=ids[:, :3], past_key_values=cache, use_cache=True
        )
    past, cross = from_cache(cache.self_attention_cache), from_cache(cache.cross_attention_cache)
    layers, width = len(past) // 2, found.encoder_last_hidden_state.shape[-1]
    reader = {"input_ids": (ids, SOURCE), "attention_mask": (mask, SOURCE)}
    writer = {
        "decoder_input_ids": (ids[:, :4].contiguous(), LENGTH),
        "encoder_attention_mask": (mask, SOURCE),
    }
    caches = {PAST: (past, WRITTEN), CROSS: (cross, SOURCE)}
    with quietly():
        export(_Reader(model), reader, {}, cache_names(CROSS, layers), folder / ENCODER)
        outputs = ["logits", *cache_names(PRESENT, layers)]
        export(_Writer(model, width), writer, caches, outputs, folder / DECODER)
    describe(folder / DECODER, model.config)
