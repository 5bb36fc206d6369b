"""A loss over tokens is that of the global batch: 2 ranks with unequal texts make the updates of one process.

What a model writes in an evaluation is the same too, though under ZeRO-3 the ranks must go on together.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import forked_ranks
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import argv, the_run
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from backend.arguments import parse
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train

STEPS = 12
TAGS, TEXTS, PAIRS = TASKS = ("token-classification", "causal-language-modelling", "translation")


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give the tiny encoder, and a random decoder with the same tokens."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model, eos_token="[SEP]", bos_token="[CLS]")  # noqa: S106 - tokens of text
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("tiny-decoder")
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {TAGS: tiny_model, TEXTS: folder, PAIRS: tiny_model}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write 43 texts of 1 to 30 words, in which some words are entities."""
    chance = random.Random(3)  # noqa: S311 - no secret
    folder = tmp_path_factory.mktemp("token-data")
    rows: list[dict[str, Any]] = []
    for number in range(43):
        tokens = [f"word{chance.randrange(40)}" for _ in range(1 + 7 * number % 30)]
        rows.append({"tokens": tokens, "tags": ["B-EVEN" if int(token[4:]) % 2 == 0 else "O" for token in tokens]})
    texts = [" ".join(row["tokens"]) for row in rows]
    written: dict[str, list[dict[str, Any]]] = {
        TAGS: rows,
        TEXTS: [{"text": text} for text in texts],
        PAIRS: [{"source": text, "target": " ".join(text.split()[:5])} for text in texts],
    }
    for name, lines in written.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return {name: folder / f"{name}.jsonl" for name in written}


def flags(task: str, model: Path, data: Path, workspace: Path, **settings: object) -> list[str]:
    given: dict[str, object] = {
        "task.name": task,
        "task.max_length": 32,
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "schedule.steps": STEPS,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 1e-3,
        "schedule.evaluate_every": STEPS,
        "precision": "fp32",
        **({"task.max_target_length": 16, "task.generation.max_new_tokens": 8} if task == PAIRS else {}),
    }
    return argv(given, **settings)


@pytest.fixture(scope="module")
def shared_out(
    models: dict[str, Path], data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], RunDir]:
    """Train every task with ZeRO-2 and ZeRO-3 on 2 ranks, each batch in 4 parts a rank."""
    root = tmp_path_factory.mktemp("tokens-shared-out")
    jobs = {
        (task, stage): flags(
            task,
            models[task],
            data[task],
            root / f"{task}-{stage}",
            deepspeed=f"zero{stage}",
            schedule__accumulation_steps=4,
        )
        for task in TASKS
        for stage in (2, 3)
    }
    log = root / "ranks.log"
    forked_ranks.finish(forked_ranks.start(2, list(jobs.values()), log), log)
    return {(task, stage): the_run(root / f"{task}-{stage}") for task, stage in jobs}


@pytest.mark.parametrize("task", TASKS)
def test_tokens_count_alike_wherever_they_are(
    task: str,
    models: dict[str, Path],
    data: dict[str, Path],
    shared_out: dict[tuple[str, int], RunDir],
    tmp_path: Path,
) -> None:
    train(parse(flags(task, models[task], data[task], tmp_path)), connect())
    expected = the_run(tmp_path)
    weights = load_file(expected.model / "model.safetensors")
    for stage in (2, 3):
        found = shared_out[task, stage]
        for one, other in zip(expected.metrics(), found.metrics(), strict=True):
            for name in {"loss", "perplexity", "bleu", "f1"} & one.keys():
                assert other[name] == pytest.approx(one[name], rel=1e-5)
        others = load_file(found.model / "model.safetensors")
        assert max(float((weights[name] - others[name]).abs().max()) for name in weights) <= 1e-5
