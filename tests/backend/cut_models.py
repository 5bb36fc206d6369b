"""A tiny model of each type whose layers may be cut, and its updates by a rank that has a part beside those of all."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import torch

SIZE = {"vocab_size": 51, "num_attention_heads": 4, "num_hidden_layers": 2, "pad_token_id": 0}
WIDTH = {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 64}
SILENT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_dropout": 0.0}
HEADS = {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
DISTILLED: dict[str, Any] = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 51}
WITHOUT_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {**DISTILLED, **WITHOUT_DROPOUT},
    **{kind: {"embedding_size": 32} for kind in ("albert", "electra")},
    **{kind: {"head_dim": 8} for kind in ("gemma", "gemma2", "gemma3_text", "qwen3")},
    "starcoder2": {"residual_dropout": 0.0, "embedding_dropout": 0.0},
}
ENCODERS = ("albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "roberta", "xlm-roberta")
STEPS = 3


def tiny(kind: str) -> Any:
    """Return a random model: a classifier if it is an encoder, else one that writes and whose words are one table."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    whole = {} if kind == "distilbert" else {**SIZE, **WIDTH, **SILENT, **({} if kind in ENCODERS else HEADS)}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **whole, **OWN.get(kind, {}))
    loader: Any = AutoModelForSequenceClassification if kind in ENCODERS else AutoModelForCausalLM
    return loader.from_config(config).float().eval()  # some have dropout of their own


def compare(place: dict[str, str], kinds: tuple[str, ...], found: Path) -> None:
    """Be one of two ranks that share each layer, and write how far losses and gradients are from those of a whole."""
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
        "zero_optimization": {"stage": 1},
        "tensor_parallel": {"autotp_size": 2, "vocab_parallel_lm_head": False},
        "zero_allow_untested_optimizer": True,
    }
    moved = Moved(Schedule(clip_norm=0.5))
    differences: dict[str, float] = {}
    for kind in kinds:
        model = tiny(kind)
        plain = PlainEngine(copy.deepcopy(model), moved, "fp32", connection.device)
        cut = DeepSpeedEngine(model, moved, config, connection.group)
        words = torch.randint(3, 50, (4, 12), generator=torch.Generator().manual_seed(1))
        inputs = {"input_ids": words, "labels": torch.tensor([0, 1, 1, 0]) if kind in ENCODERS else words}
        worst = 0.0
        for _ in range(STEPS):
            (loss, norm), (other, other_norm) = (update(engine, inputs) for engine in (plain, cut))
            worst = max(worst, abs(other / loss - 1), abs(other_norm / norm - 1) / 10)
        weights = cut.weights()
        for name, weight in plain.weights().items() if connection.group.rank == 0 else ():
            worst = max(worst, float((weight - weights[name]).abs().max()))
        differences[kind] = worst
    if connection.group.rank == 0:
        found.write_text(json.dumps(differences), encoding="utf-8")
    disconnect()


def update(engine: Any, inputs: dict[str, Any]) -> tuple[float, float]:
    """Make one update, and return the loss and the norm of its gradient."""
    loss = engine.forward(inputs)["loss"]
    engine.backward(loss)
    return loss.item(), engine.step(lambda _: 1e-3).grad_norm
