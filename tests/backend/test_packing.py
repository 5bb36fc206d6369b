from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers import PreTrainedModel as Model

from backend.errors import UserError
from backend.rundir import RunDir
from backend.spec import parse_job
from backend.tokenizer import Tokenizer


@pytest.fixture
def new_run(tmp_path: Path, byte_tokenizer: Callable[..., Tokenizer]) -> Callable[..., RunDir]:
    """Make a dialogue of 12 rows with a tiny model of a kind."""

    def make(model: Model, **task: object) -> RunDir:
        model.save_pretrained(tmp_path / "model")
        ours = byte_tokenizer()
        names = {f"{role}_token": token for role, token in ours.special.items()}
        PreTrainedTokenizerFast(tokenizer_object=ours._fast, **names).save_pretrained(tmp_path / "model")
        rows = [{"prompt": "ab" * (number % 5 + 1), "response": "cd" * (number % 3 + 1)} for number in range(12)]
        data = tmp_path / "talks.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        job = {
            "model": str(tmp_path / "model"),
            "data": {"train": str(data)},
            "task": {"name": "dialogue", "max_length": 128, **task},
            "schedule": {"steps": 1, "batch_size": 12},
            "precision": "fp32",
        }
        return RunDir.create(tmp_path / "runs", parse_job(job))

    return make


def first_loss(run: RunDir) -> float:
    return next(float(record["loss"]) for record in run.metrics() if record["kind"] == "train")


def test_a_run_learns_the_same_from_packed_conversations(
    new_run: Callable[..., RunDir], train_here: Callable[[RunDir], None]
) -> None:
    config = GPT2Config(
        vocab_size=262,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=128,
        bos_token_id=258,
        eos_token_id=258,
        initializer_range=0.3,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config)
    runs = {packing: new_run(model, packing=packing) for packing in (True, False)}

    for run in runs.values():
        train_here(run)

    packed, apart = (run.report()["data"]["examples"]["train"] for run in runs.values())  # type: ignore[index]
    assert packed < apart
    assert first_loss(runs[True]) == pytest.approx(first_loss(runs[False]), rel=1e-5)
    perplexities = [run.report()["validation"]["metrics"]["perplexity"] for run in runs.values()]  # type: ignore[index]
    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-3)


def test_a_run_with_an_encoder_is_refused_before_it_learns_to_copy(
    new_run: Callable[..., RunDir], train_here: Callable[[RunDir], None]
) -> None:
    config = BertConfig(
        vocab_size=262, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )

    with pytest.raises(UserError, match="it is no decoder"):
        train_here(new_run(BertLMHeadModel(config)))
