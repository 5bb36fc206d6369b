"""A tiny model of each type that ranks may share the layers or the rows of, and its updates beside those of a whole."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

WORDS = 51
SIZE = {"vocab_size": WORDS, "num_attention_heads": 4, "num_hidden_layers": 2, "pad_token_id": 0}
WIDTH = {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 64}
SILENT = dict.fromkeys(
    (
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "attention_dropout"),
        *("attn_pdrop", "resid_pdrop", "embd_pdrop", "residual_dropout", "embedding_dropout"),
    ),
    0.0,
)
HEADS = {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
DISTILLED: dict[str, Any] = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": WORDS}
WITHOUT_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {**DISTILLED, **WITHOUT_DROPOUT},
    **{kind: {"embedding_size": 32} for kind in ("albert", "electra")},
    **{kind: {"head_dim": 8} for kind in ("gemma", "gemma2", "gemma3_text", "qwen3")},
    "glm": {"head_dim": 8, "num_key_value_heads": 1},
    "gpt2": {"n_inner": 64},
}
ENCODERS = ("albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "roberta", "xlm-roberta")
STEPS = 3

Batch = tuple[dict[str, Any], dict[str, Any]]  # what the model reads, what the loss reads


class Sharing(NamedTuple):
    """What ranks share, and the batches that show it."""

    config: dict[str, Any]
    batch: Callable[[str, int], Batch]  # of a type of model and a step


def tiny(kind: str) -> Any:
    """Return a random model: a classifier if it is an encoder, else one that writes and whose words are one table."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    whole = {} if kind == "distilbert" else {**SIZE, **WIDTH, **SILENT, **({} if kind in ENCODERS else HEADS)}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**whole, **OWN.get(kind, {})})
    loader: Any = AutoModelForSequenceClassification if kind in ENCODERS else AutoModelForCausalLM
    return loader.from_config(config).float()


def of_own_loss(kind: str, _step: int) -> Batch:
    """Return rows of which the model finds the loss."""
    words = _words()
    return {"input_ids": words, "labels": torch.tensor([0, 1, 1, 0]) if kind in ENCODERS else words}, {}


def of_next_words(_kind: str, step: int) -> Batch:
    """Return texts that are packed in every second step, the last row shorter than the others."""
    words = _words()
    packed = torch.tensor([[*range(6), *range(7)]] * 3 + [[*range(10), 0, 0, 0]])
    labels = words.clone()
    labels[3, 10:] = -100
    reads = {"position_ids": packed} if step % 2 else {"attention_mask": (labels != -100).long()}
    return {"input_ids": words, **reads, "use_cache": False}, {"labels": labels}


def _words() -> torch.Tensor:
    return torch.randint(3, WORDS - 1, (4, 13), generator=torch.Generator().manual_seed(1))


def compare(place: dict[str, str], kinds: Sequence[str], sharing: Sharing, found: Path) -> None:
    """Be one of two ranks, and write how far losses, norms of gradients and weights are from those of one process."""
    os.environ |= place
    from backend.deepspeed_engine import DeepSpeedEngine
    from backend.distributed import OneProcess
    from backend.engine import PlainEngine
    from backend.optimizer import Moved
    from backend.rank import connect, disconnect
    from backend.schedule import Schedule

    connection = connect()
    assert not isinstance(connection.group, OneProcess)
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.5,
        "zero_allow_untested_optimizer": True,
        **sharing.config,
    }
    moved = Moved(Schedule(clip_norm=0.5))
    differences: dict[str, float] = {}
    for kind in kinds:
        model = tiny(kind).train()
        for module in model.modules():
            if "Dropout" in type(module).__name__:  # some types have dropout of their own
                module.eval()
        plain = PlainEngine(copy.deepcopy(model), moved, "fp32", connection.device)
        shared = DeepSpeedEngine(model, moved, config, connection.group)
        worst = 0.0
        for step in range(STEPS):
            batch = sharing.batch(kind, step)
            (loss, norm), (other, other_norm) = (update(engine, *batch) for engine in (plain, shared))
            worst = max(worst, abs(other / loss - 1), abs(other_norm / norm - 1) / 10)
        said, others = answers(plain, batch), answers(shared, batch)
        worst = max(worst, float((said - others).abs().max() / said.abs().max()) / 100)
        weights = shared.weights()
        for name, weight in plain.weights().items() if connection.group.rank == 0 else ():
            worst = max(worst, float((weight - weights[name]).abs().max()) / 10)  # each has moved by about 3e-3
        differences[kind] = worst
    if connection.group.rank == 0:
        found.write_text(json.dumps(differences), encoding="utf-8")
    disconnect()


def answers(engine: Any, batch: Batch) -> torch.Tensor:
    """Return what the model says to whole rows when it is not trained."""
    engine.model.eval()
    with torch.no_grad(), engine.whole():
        found: torch.Tensor = engine.forward(batch[0])["logits"]
    engine.model.train()
    return found


def update(engine: Any, inputs: dict[str, Any], targets: dict[str, Any]) -> tuple[float, float]:
    """Make one update, and return the loss of all ranks and the norm of its gradient."""
    from torch.nn import functional

    from backend.text.language import next_token_decisions

    count = int((targets["labels"][:, 1:] != -100).sum()) if targets else 0
    inputs, targets = engine.part(inputs, targets)
    outputs = engine.forward(inputs)
    if targets:
        loss = functional.cross_entropy(*next_token_decisions(outputs, targets), reduction="sum") / count
    else:
        loss = outputs["loss"]
    engine.backward(loss)
    (whole,) = engine.group.sum([loss.item() / engine.rows.copies])
    return whole, engine.step(lambda _: 1e-3).grad_norm
