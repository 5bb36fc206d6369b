"""The terms of GPUs are held to what an H200 took with torch 2.11, DeepSpeed 0.19.8 and transformers 5.23.

Taken is the most that tensors took at a time (`torch.cuda.max_memory_allocated`); tests/backend/gpu measures it anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from transformers import BertConfig, GPT2Config, LlamaConfig

from backend import deepspeed_config
from backend.layers import Amount, Layout
from backend.offload import offloaded
from backend.planning.families import read_shape
from backend.planning.gpu import DEEPSPEED, RUNTIME
from backend.planning.memory import terms
from backend.planning.terms import Work

WITHIN = 0.15
SMALL = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
LARGE = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8}
CONFIGS = {
    "bert": BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
    "gpt2": GPT2Config(),
    "llama-135m": LlamaConfig(**SMALL, intermediate_size=1536, vocab_size=49152, tie_word_embeddings=True),
    "llama-1b": LlamaConfig(**LARGE, intermediate_size=8192, vocab_size=128256, tie_word_embeddings=True),
}
LORA = 11_272_192  # weights of LoRA of rank 8 beside all linear layers of the largest


class Took(NamedTuple):
    """A training of one process, and the megabytes that its tensors took."""

    model: str
    file: str  # empty: without DeepSpeed
    precision: str
    rows: int
    length: int
    megabytes: float
    parts: int = 1
    checkpointing: bool = False
    trainable: int = 0  # 0: all

    def __str__(self) -> str:
        return f"{self.model}-{self.file or 'plain'}-{self.precision}-{self.rows}x{self.length}"


MEASURED = [
    Took("bert", "", "fp32", 64, 256, 3043),
    Took("bert", "", "fp32", 64, 256, 1038, checkpointing=True),
    Took("bert", "", "bf16", 256, 256, 7095),
    Took("bert", "", "bf16", 256, 256, 3745, parts=2),
    Took("bert", "zero0", "fp32", 64, 256, 3043),
    Took("bert", "zero2", "bf16", 128, 256, 3315),
    Took("bert", "zero3", "bf16", 128, 256, 3310),
    Took("gpt2", "", "bf16", 8, 512, 7546),
    Took("llama-135m", "", "fp32", 8, 512, 12280),
    Took("llama-135m", "", "bf16", 8, 1024, 14379),
    Took("llama-135m", "zero1", "bf16", 8, 1024, 12869),
    Took("llama-135m", "zero2", "fp32", 4, 512, 7523),
    Took("llama-135m", "zero2", "fp16", 8, 1024, 12869),
    Took("llama-135m", "zero3", "bf16", 8, 1024, 13409),
    Took("llama-135m", "zero2_offload", "bf16", 8, 1024, 11312),
    Took("llama-135m", "zero3_offload", "bf16", 8, 1024, 11524),
    Took("llama-1b", "", "bf16", 2, 1024, 24793),
    Took("llama-1b", "", "bf16", 2, 1024, 13392, trainable=LORA),
    Took("llama-1b", "zero0", "bf16", 2, 1024, 8323, trainable=LORA),
    Took("llama-1b", "zero2", "bf16", 1, 64, 27255),
    Took("llama-1b", "zero2", "fp16", 2, 512, 27255),
    Took("llama-1b", "zero2", "bf16", 4, 1024, 31105),
    Took("llama-1b", "zero2_offload", "bf16", 4, 1024, 16873),
    Took("llama-1b", "zero3", "bf16", 4, 1024, 34329),
]


def planned(case: Took, folder: Path) -> tuple[float, float]:
    """Return the bytes of the tensors, and of what the process has besides."""
    CONFIGS[case.model].save_pretrained(folder)
    shape = read_shape(str(folder))
    layout = Layout(precision=case.precision)
    if case.file:
        config = deepspeed_config.read(case.file)
        stage = config["zero_optimization"]["stage"]
        layout = Layout(stage=stage, precision=case.precision, launched=True, offload=offloaded(config))
    writes = case.model != "bert"
    work = Work(
        rows=case.rows // case.parts,
        length=case.length,
        vocabulary=shape.vocabulary if writes else 0,
        parts=case.parts,
        checkpointing=case.checkpointing,
    )
    found = terms(shape, Amount(shape.parameters, case.trainable or shape.parameters), work, layout, "cuda")
    besides = sum(term.bytes for term in found if term.name == "runtime")
    return sum(term.bytes for term in found) - besides, besides


@pytest.mark.parametrize("case", MEASURED, ids=str)
def test_the_tensors_of_a_training_take_what_the_plan_says(case: Took, tmp_path: Path) -> None:
    assert planned(case, tmp_path)[0] / 1e6 == pytest.approx(case.megabytes, rel=WITHIN)


def test_weights_in_few_bits_take_what_the_plan_says(tmp_path: Path) -> None:
    CONFIGS["llama-1b"].save_pretrained(tmp_path)
    shape = read_shape(str(tmp_path))
    packed = shape.parameters - shape.embedding
    amount = Amount(shape.parameters, LORA, packed, int(packed * 0.53))  # 4 bits each, and a scale for every few
    work = Work(rows=2, length=1024, vocabulary=shape.vocabulary)
    found = terms(shape, amount, work, Layout(precision="bf16"), "cuda")
    taken = sum(term.bytes for term in found if term.name != "runtime") / 1e6
    assert taken == pytest.approx(8069, rel=WITHIN)


@pytest.mark.parametrize(("case", "megabytes"), [(MEASURED[0], 780), (MEASURED[5], 1791)], ids=["plain", "deepspeed"])
def test_a_process_has_what_the_plan_says_beside_its_tensors(case: Took, megabytes: float, tmp_path: Path) -> None:
    """The driver told it of the whole process; what torch had reserved for tensors is taken off."""
    besides = planned(case, tmp_path)[1]
    assert besides / 1e6 == pytest.approx(megabytes, rel=0.05)
    assert besides == RUNTIME + (DEEPSPEED if case.file else 0)
