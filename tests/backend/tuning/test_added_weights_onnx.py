"""Models that write are exported with what stays beside their weights, and write the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from backend.files import write_json
from backend.generation import generate
from backend.interfaces import Generation
from backend.model import ADDED, load_saved_as
from backend.stepping import steps
from backend.tuning import TUNINGS
from export import decoders, encoder_decoders
from export.steps import OnnxDecoder, OnnxEncoderDecoder

TOKENIZER: Any = SimpleNamespace(start_id=0)
BATCH = {
    "input_ids": np.asarray([[5, 7, 9, 11, 3], [4, 6, 3, 0, 0]]),
    "attention_mask": np.asarray([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
SETTINGS = [Generation(max_new_tokens=6), Generation(max_new_tokens=6, num_beams=3)]


def llama() -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=60, num_key_value_heads=1, max_position_embeddings=64, **sizes)
    )


def t5() -> Any:
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=60, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, decoder_start_token_id=0
        )
    )


def tuned(model: Any, method: str, folder: Path) -> Any:
    """Save a random model with random weights added, and load it."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
        tuning = TUNINGS[method]
        options = tuning.Options.model_validate({"name": method})
        tuning.apply(model, options, 1)
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    write_json(folder / ADDED, options.model_dump())
    return load_saved_as(folder, type(model))


@pytest.mark.parametrize(
    ("method", "architecture"),
    [
        ("prefix-tuning", "decoder"),
        pytest.param("adapters", "decoder", marks=pytest.mark.slow),
        ("prefix-tuning", "encoder-decoder"),
        pytest.param("adapters", "encoder-decoder", marks=pytest.mark.slow),
        pytest.param("prompt-tuning", "encoder-decoder", marks=pytest.mark.slow),
    ],
)
def test_the_exported_model_writes_the_same(method: str, architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    kinds: dict[str, Any] = {
        "decoder": (llama, decoders.write, OnnxDecoder),
        "encoder-decoder": (t5, encoder_decoders.write, OnnxEncoderDecoder),
    }
    build, write, load = kinds[architecture]
    model = tuned(build(), method, tmp_path / "model")
    graphs = tmp_path / "onnx"
    graphs.mkdir()
    write(tmp_path / "model", graphs)
    exported = load(graphs, TOKENIZER, None)
    for settings in SETTINGS:
        ours = generate(steps(architecture, model, TOKENIZER), BATCH, settings, (3,))
        assert generate(exported.steps(), BATCH, settings, (3,)) == ours
        assert any(len(row) > 2 for row in ours)
