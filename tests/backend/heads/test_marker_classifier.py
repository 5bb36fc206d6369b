from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from torch.nn import functional

from backend.heads.marker_classifier import MarkerClassifier

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 80,
    "max_position_embeddings": 66,
}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SIZE),
    "roberta": lambda: transformers.RobertaConfig(**SIZE),
    "distilbert": lambda: transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=80),
    "deberta": lambda: transformers.DebertaV2Config(**SIZE),
}
NAMES = {0: "born_in", 1: "no_relation", 2: "works_for"}


def load(folder: Path) -> MarkerClassifier:
    return MarkerClassifier.from_pretrained(
        folder,
        revision=None,
        dtype=torch.float32,
        id2label=NAMES,
        label2id={name: number for number, name in NAMES.items()},
        ignore_mismatched_sizes=True,
        use_safetensors=True,
        trust_remote_code=False,
    )


def pretrained(architecture: str, folder: Path, auto: str = "AutoModel") -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    model: transformers.PreTrainedModel = getattr(transformers, auto).from_config(CONFIGS[architecture]())
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.3)
    model.save_pretrained(folder)
    return model


def ragged(rows: int, length: int) -> dict[str, torch.Tensor]:
    draw = np.random.default_rng(rows * 1000 + length)
    lengths = draw.integers((length + 1) // 2, length + 1, (rows, 1))
    mask = np.arange(length) < lengths
    mask[0] = True
    markers = np.zeros((rows, length), dtype=np.int64)
    for row in range(rows):
        markers[row, draw.choice(int(mask[row].sum()), 2, replace=False)] = 1, 2
    arrays = {
        "input_ids": np.where(mask, draw.integers(4, 80, (rows, length)), 0),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.zeros_like(markers),
        "markers": markers,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForMaskedLM"])
def test_a_pretrained_encoder_keeps_its_weights_and_gets_a_new_head(
    architecture: str, auto: str, tmp_path: Path
) -> None:
    source = pretrained(architecture, tmp_path, auto)
    expected = source.base_model.state_dict()

    model = load(tmp_path)

    weights = model.encoder.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert {name for name in expected if name not in weights} <= {"pooler.dense.weight", "pooler.dense.bias"}
    assert model.classifier.weight.shape == (3, 32)
    assert model.dense.weight.shape == (32, 64)
    assert 0.015 < model.dense.weight.std() < 0.025
    assert torch.count_nonzero(model.dense.bias) == 0


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_saved_model_comes_back_with_all_its_weights(architecture: str, tmp_path: Path) -> None:
    pretrained(architecture, tmp_path / "source")
    model = load(tmp_path / "source").eval()
    model.save_pretrained(tmp_path / "saved")

    again = MarkerClassifier.from_pretrained(tmp_path / "saved", dtype=torch.float32, use_safetensors=True).eval()

    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert again.config.id2label == NAMES
    assert not list((tmp_path / "saved").glob("*.bin"))
    batch = ragged(3, 9)
    if architecture == "distilbert":
        del batch["token_type_ids"]
    assert torch.equal(model(**batch).logits, again(**batch).logits)


def test_a_head_for_other_relations_is_replaced(tmp_path: Path) -> None:
    pretrained("bert", tmp_path / "source")
    MarkerClassifier.from_pretrained(tmp_path / "source", id2label={0: "a", 1: "b"}).save_pretrained(tmp_path / "two")

    assert load(tmp_path / "two").classifier.weight.shape == (3, 32)


def test_logits_are_those_of_the_states_at_the_markers(tmp_path: Path) -> None:
    pretrained("bert", tmp_path)
    model = load(tmp_path).eval()
    batch = ragged(4, 11)

    states = model.encoder(**{name: batch[name] for name in batch if name != "markers"}).last_hidden_state
    picked = [
        torch.stack([states[row, batch["markers"][row].tolist().index(place)] for row in range(4)]) for place in (1, 2)
    ]
    hidden = torch.tanh(functional.linear(torch.cat(picked, dim=-1), model.dense.weight, model.dense.bias))
    expected = functional.linear(hidden, model.classifier.weight, model.classifier.bias)

    assert torch.allclose(model(**batch).logits, expected, atol=1e-6)


def test_every_weight_learns(tmp_path: Path) -> None:
    pretrained("bert", tmp_path)
    model = load(tmp_path)

    model(**ragged(4, 11)).logits.sum().backward()

    assert [name for name, weights in model.named_parameters() if weights.grad is None] == []


def test_the_configuration_stays_that_of_the_encoder(tmp_path: Path) -> None:
    pretrained("bert", tmp_path / "source")
    load(tmp_path / "source").save_pretrained(tmp_path / "saved")

    config = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))

    assert config["model_type"] == "bert"
    assert config["architectures"] == ["MarkerClassifier"]


class Logits(torch.nn.Module):
    def __init__(self, model: MarkerClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self.model(**inputs).logits
        return logits


@pytest.mark.filterwarnings("ignore")
def test_the_onnx_graph_answers_as_torch_does_at_every_shape(tmp_path: Path) -> None:
    pretrained("bert", tmp_path)
    model = load(tmp_path).eval()
    sample = ragged(2, 8)
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=66)}
    program = torch.onnx.export(
        Logits(model).eval(),
        kwargs={"inputs": sample},
        input_names=list(sample),
        output_names=["logits"],
        dynamic_shapes={"inputs": dict.fromkeys(sample, shape)},
        opset_version=23,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "markers",
    ]
    for rows, length in ((1, 2), (1, 66), (3, 17), (5, 8), (16, 33)):
        batch = ragged(rows, length)
        (logits,) = session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})
        with torch.inference_mode():
            expected = model(**batch).logits.numpy()
        assert logits.shape == (rows, 3)
        assert np.abs(logits - expected).max() < 1e-5
