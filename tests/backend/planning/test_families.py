from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, AutoModel

from backend.errors import UserError
from backend.planning.families import FAMILIES, read_shape

ROWS, LENGTHS = 2, (16, 40)
SMALL: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 48,
    "d_model": 48,
    "dim": 48,
    "n_embd": 48,
    "embedding_size": 48,
    "intermediate_size": 112,
    "hidden_dim": 112,
    "d_ff": 112,
    "encoder_ffn_dim": 112,
    "decoder_ffn_dim": 112,
    "n_inner": 112,
    "num_attention_heads": 4,
    "n_heads": 4,
    "n_head": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "d_kv": 8,
    "head_dim": 8,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "encoder_layerdrop": 0.0,  # else a pass leaves out layers by chance
    "decoder_layerdrop": 0.0,
}
DEPTHS = (
    ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers"),
    ("num_decoder_layers", "decoder_layers"),
)
TWO = {"t5", "mt5", "bart", "mbart", "marian", "m2m_100", "pegasus"}  # an encoder and a decoder


def config(kind: str, depths: tuple[int, int], **changes: Any) -> Any:
    found = AutoConfig.for_model(kind)
    known = set(found.to_dict()) | {"n_inner"}
    wanted = {**SMALL, **{name: depth for names, depth in zip(DEPTHS, depths, strict=True) for name in names}}
    wanted |= {"sliding_window": None, "layer_types": None} if "layer_types" in known else {}
    return AutoConfig.for_model(kind, **{name: value for name, value in {**wanted, **changes}.items() if name in known})


def kept(model: torch.nn.Module, length: int) -> int:
    """Return the bytes that a pass keeps for the way back, without the weights."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(1, 80, (ROWS, length))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:  # type: ignore[union-attr]
        inputs["decoder_input_ids"] = ids
    with saved_tensors_hooks(note, lambda tensor: tensor):
        held = model.train()(**inputs)
    assert held is not None
    return sum(sizes.values())


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_weights_of_a_model_are_counted_to_the_last_one(kind: str, tmp_path: Path) -> None:
    for made in (AutoConfig.for_model(kind), config(kind, (3, 2))):
        made.save_pretrained(tmp_path)
        with torch.device("meta"):
            model = AutoModel.from_config(made)
        counted = sum(weight.numel() for name, weight in model.named_parameters() if "pooler" not in name)
        assert read_shape(str(tmp_path)).parameters == counted


@pytest.mark.parametrize(("kind", "side"), [(kind, side) for kind in FAMILIES for side in range(1 + (kind in TWO))])
def test_what_a_layer_keeps_for_the_way_back_is_what_torch_keeps(kind: str, side: int, tmp_path: Path) -> None:
    def found(depth: int) -> Any:
        return config(kind, (depth, 2) if side == 0 else (2, depth))

    found(2).save_pretrained(tmp_path)
    stack = read_shape(str(tmp_path)).stacks[side]
    shallow, deep = (AutoModel.from_config(found(depth)) for depth in (2, 5))
    for length in LENGTHS:
        numbers = (kept(deep, length) - kept(shallow, length)) / 4 / 3 / (ROWS * length)
        assert stack.kept(length) == pytest.approx(numbers, rel=0.02, abs=12)


def test_a_kind_of_model_that_is_not_known_is_told_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(UserError, match=r'knows no sizes of model_type "mamba", only of bert, .*tunewright layers'):
        read_shape(str(tmp_path))


def test_a_size_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    with pytest.raises(UserError, match=r"config\.json has no num_attention_heads, which the plan of memory needs"):
        read_shape(str(tmp_path))
