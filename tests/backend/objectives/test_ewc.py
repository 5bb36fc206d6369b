"""The pull to the earlier weights is that of a plain reference, and it holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import earlier_runs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from backend.arguments import parse
from backend.data.batching import pad
from backend.data.prepared import Split
from backend.errors import UserError
from backend.objectives import OBJECTIVES
from backend.rundir import RunDir


@pytest.fixture(scope="module")
def earlier(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Train a run that is not to be forgotten."""
    return earlier_runs.trained(tiny_model, tiny_data, tmp_path_factory.mktemp("earlier"))


def ewc(run: RunDir, **settings: object) -> dict[str, object]:
    named = {f"objectives__ewc__{name}": value for name, value in settings.items()}
    return {"objectives__ewc__run": run.path, **named}


def tensors_of(run: RunDir, numbers: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    arrays = pad(Split.open(run.data, "train").features(numbers), 0, ("labels",))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return tensors, tensors.pop("labels").reshape(-1)


def reference(run: RunDir, rows: int, seed: int) -> dict[str, torch.Tensor]:
    """Return the mean square of the gradients of classes that are drawn as the model finds them."""
    model = AutoModelForSequenceClassification.from_pretrained(run.model).eval()
    squares = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for number in np.random.default_rng(seed).permutation(len(Split.open(run.data, "train")))[:rows]:
        inputs, _ = tensors_of(run, [int(number)])
        logits = model(**inputs).logits
        random = torch.Generator().manual_seed(seed + int(number))
        drawn = torch.multinomial(torch.softmax(logits.detach(), -1), 1, generator=random).squeeze(1)
        model.zero_grad()
        functional.cross_entropy(logits, drawn).backward()  # type: ignore[no-untyped-call]
        for name, weight in model.named_parameters():
            squares[name] += 0 if weight.grad is None else weight.grad.square() / rows
    return squares


def test_updates_are_those_of_a_plain_reference(earlier: RunDir, tiny_data: Path, tmp_path: Path) -> None:
    rows, strength, seed, steps = 20, 3000.0, 7, 3
    settings = {"schedule__steps": steps, "schedule__evaluate_every": steps, "schedule__decay": "constant"}
    settings |= {"schedule__clip_norm": 0, "schedule__weight_decay": 0, "schedule__batch_size": 64, "seed": seed}
    run = earlier_runs.trained(
        earlier.model, tiny_data, tmp_path, **settings, **ewc(earlier, rows=rows, strength=strength)
    )
    squares = reference(earlier, rows, seed)
    model = AutoModelForSequenceClassification.from_pretrained(earlier.model)
    anchors = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
    inputs, labels = tensors_of(run, range(len(Split.open(run.data, "train"))))
    for _ in range(steps):
        optimizer.zero_grad()
        pull = sum((squares[name] * (w - anchors[name]).square()).sum() for name, w in model.named_parameters())
        (functional.cross_entropy(model(**inputs).logits, labels) + strength / 2 * pull).backward()
        optimizer.step()
    found = load_file(run.model / "model.safetensors")
    assert any(bool((found[name] - anchors[name]).abs().max() > 1e-3) for name in anchors)
    for name, weight in model.named_parameters():
        assert torch.allclose(found[name], weight, atol=2e-5), name


def test_weights_that_matter_stay_near(earlier: RunDir, tiny_data: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.csv"
    text = tiny_data.read_text(encoding="utf-8")
    turned.write_text(text.replace("positive", "x").replace("negative", "positive").replace(",x", ",negative"))
    free = earlier_runs.trained(earlier.model, turned, tmp_path / "free")
    held = earlier_runs.trained(earlier.model, turned, tmp_path / "held", **ewc(earlier, strength=1e6))
    (file,) = (held.path / "computed").glob("fisher-*.safetensors")
    known = load_file(file)

    def forgotten(run: RunDir) -> float:
        weights = load_file(run.model / "model.safetensors")
        far = (
            (known[f"fisher/{key}"] * (weights[name] - known[f"anchor/{key}"]).square()).sum()
            for name, key in ((name, name.removeprefix("bert.")) for name in weights)
        )
        return float(sum(far))

    assert forgotten(held) < 0.7 * forgotten(free)


def test_a_head_of_other_classes_is_left_free(earlier: RunDir, tiny_data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    text = tiny_data.read_text(encoding="utf-8")
    other.write_text(text.replace("positive", "yes").replace("negative", "no"))
    run = earlier_runs.trained(earlier.model, other, tmp_path / "runs", **ewc(earlier, strength=1e12))
    (file,) = (run.path / "computed").glob("fisher-*.safetensors")
    assert not [name for name in load_file(file) if "classifier" in name]
    one, start = (load_file(each.model / "model.safetensors") for each in (run, earlier))
    assert float((one["classifier.weight"] - start["classifier.weight"]).abs().max()) > 1e-2


def test_the_job_has_to_begin_with_the_earlier_model(earlier: RunDir, tiny_model: Path, tiny_data: Path) -> None:
    with pytest.raises(UserError, match="the job has to begin with the model of"):
        parse(earlier_runs.flags(tiny_model, tiny_data, Path("runs"), **ewc(earlier)))
    with pytest.raises(UserError, match="names no run"):
        parse(earlier_runs.flags(tiny_model, tiny_data, Path("runs"), objectives__ewc="on"))


def test_what_is_not_trained_cannot_be_held(earlier: RunDir, tiny_data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    text = tiny_data.read_text(encoding="utf-8")
    other.write_text(text.replace("positive", "yes").replace("negative", "no"))
    settings = {"tuning.name": "freeze", "tuning.frozen": "bert"}
    with pytest.raises(UserError, match="none of the weights that are trained is in the earlier model"):
        earlier_runs.trained(earlier.model, other, tmp_path / "runs", **settings, **ewc(earlier))


def test_it_is_the_last_to_see_the_loss() -> None:
    assert list(OBJECTIVES)[-1] == "ewc", "what others make of a loss would change the pull"
