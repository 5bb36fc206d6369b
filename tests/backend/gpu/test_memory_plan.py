"""The plan is held to what trainings take of a GPU: the most bytes of its tensors at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from backend import deepspeed_config
from backend.planning.advisor import Machine
from webui.plan_command import plan_of

WITHIN = 0.15
WORDS = "word1 word2 word3 good word4 bad word5 word6"
AGAIN = {"schedule.activation_checkpointing": True}
PARTS = {"schedule.accumulation_steps": 2}
ENDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
LLAMA = {  # as SmolLM2-135M
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
BERT = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}  # as MiniLM
MODELS: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertModel(BertConfig(**BERT)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**ENDS)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, **ENDS)),
}


class Case(NamedTuple):
    """A training of one process: by itself, or by DeepSpeed where it has a file."""

    model: str
    file: str
    precision: str
    rows: int
    length: int
    more: dict[str, Any] = {}  # noqa: RUF012 - a default of a named tuple, which nobody changes

    def __str__(self) -> str:
        more = "".join(f"-{name.rpartition('.')[2]}" for name in self.more)
        return f"{self.model}-{self.file or 'plain'}-{self.precision}-{self.rows}x{self.length}{more}"


CASES = [
    Case("bert", "", "fp32", 64, 256),
    Case("bert", "", "bf16", 256, 256),
    Case("bert", "", "bf16", 256, 256, PARTS),
    Case("bert", "", "fp32", 64, 256, AGAIN),
    Case("bert", "zero0", "fp32", 64, 256),
    Case("bert", "zero3", "bf16", 128, 256),
    Case("gpt2", "", "bf16", 8, 512),
    Case("gpt2", "zero2", "bf16", 8, 512),
    Case("llama", "", "fp32", 1, 64),
    Case("llama", "", "bf16", 8, 1024),
    Case("llama", "", "bf16", 16, 1024, AGAIN),
    Case("llama", "", "bf16", 8, 1024, {"tuning.name": "lora"}),
    Case("llama", "zero1", "fp32", 4, 512),
    Case("llama", "zero2", "bf16", 1, 64),
    Case("llama", "zero2", "bf16", 8, 1024, PARTS),
    Case("llama", "zero2", "bf16", 16, 1024, AGAIN),
    Case("llama", "zero2", "fp16", 8, 1024),
    Case("llama", "zero3", "bf16", 8, 1024),
    Case("llama", "zero2_offload", "bf16", 8, 1024),
    Case("llama", "zero3_offload", "bf16", 8, 1024),
]


@pytest.fixture(scope="session")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def model(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            MODELS[name]().save_pretrained(made[name])
            tokenizer = AutoTokenizer.from_pretrained(tiny_model, model_max_length=4096)
            tokenizer.eos_token = tokenizer.sep_token
            tokenizer.save_pretrained(made[name])
        return made[name]

    return model


@pytest.fixture(scope="session")
def long_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(320):
            writer.writerow([f"{WORDS} " * 130, "ab"[number % 2]])
    return path


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_plan_is_near_what_a_training_takes(
    case: Case, models: Callable[[str], Path], long_rows: Path, train: Any, request: pytest.FixtureRequest
) -> None:
    settings = {
        "model": models(case.model),
        "data.train": long_rows,
        "data.test_fraction": 0,
        "data.validation_fraction": 0.05,
        "workspace": request.getfixturevalue("tmp_path"),
        "task.name": "text-classification" if case.model == "bert" else "causal-language-modelling",
        "task.max_length": case.length,
        "schedule.steps": 3,
        "schedule.batch_size": case.rows,
        "schedule.evaluate_every": 1000,
        "precision": case.precision,
        **case.more,
        **({"deepspeed": case.file} if case.file else {}),
    }
    run = train(settings)
    taken = [record["memory_largest"] for record in run.metrics() if record["kind"] == "train"][-1]
    request.getfixturevalue("monkeypatch").setattr(deepspeed_config, "is_launched", lambda *_: bool(case.file))
    terms = plan_of(run.job, 1, Machine("cuda", 0)).current.terms
    planned = sum(term.bytes for term in terms if term.name != "runtime")
    told = f"{taken / 1e6:.0f} / {planned / 1e6:.0f} ({planned / taken - 1:+.1%})"
    request.node.user_properties.append(("taken / planned MB", told))
    assert planned == pytest.approx(taken, rel=WITHIN)
