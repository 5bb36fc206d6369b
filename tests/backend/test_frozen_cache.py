"""What frozen layers put out is looked up: the same training, without their computation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from backend.arguments import parse
from backend.errors import UserError
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.spec import parse_job

STEPS = 14


@pytest.fixture(scope="module")
def encoder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny model with dropout."""
    folder = tmp_path_factory.mktemp("with-dropout") / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "config.json").write_text(json.dumps({**config, **dropout}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def decoder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a random Llama with the tokens of the tiny model."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model, eos_token="[SEP]", bos_token="[CLS]")  # noqa: S106 - tokens of text
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=0, **sizes, **ids)
    folder = tmp_path_factory.mktemp("tiny-llama")
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the number of every layer that computes with the weights in training, as it is asked."""
    noted: list[int] = []
    for kind, number in ((BertLayer, "attention.self.layer_idx"), (LlamaDecoderLayer, "self_attn.layer_idx")):
        forward = kind.forward

        def noting(layer: Any, *args: Any, _forward: Any = forward, _number: str = number, **kwargs: Any) -> Any:
            owner, _, attribute = _number.rpartition(".")
            if torch.is_grad_enabled():
                noted.append(getattr(layer.get_submodule(owner), attribute))
            return _forward(layer, *args, **kwargs)

        monkeypatch.setattr(kind, "forward", noting)
    return noted


def trained(model: Path, data: Path, workspace: Path, *flags: str) -> RunDir:
    """Train with frozen layers."""
    settings = {
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "task.max_length": 32,
        "tuning.name": "freeze",
        "tuning.layers": 1,
        "schedule.steps": STEPS,
        "schedule.batch_size": 8,
        "schedule.accumulation_steps": 2,
        "schedule.learning_rate": 1e-3,
        "precision": "fp32",
    }
    train(parse([*(part for name, value in settings.items() for part in (f"--{name}", str(value))), *flags]), connect())
    (run,) = RunDir.all(workspace)
    return run


def assert_same(one: RunDir, other: RunDir) -> None:
    for mine, theirs in zip(one.metrics(), other.metrics(), strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-5)
    weights, others = (load_file(run.model / "model.safetensors") for run in (one, other))
    assert max(float((weights[name] - others[name]).abs().max()) for name in weights) <= 1e-5


def test_an_encoder_learns_the_same_and_computes_the_frozen_layer_no_more(
    encoder: Path, tiny_data: Path, tmp_path: Path, computed: list[int]
) -> None:
    plain = trained(encoder, tiny_data, tmp_path / "plain")
    assert set(computed) == {0, 1}
    computed.clear()
    cached = trained(encoder, tiny_data, tmp_path / "cached", "--tuning.cache")
    assert set(computed) == {1}
    assert_same(plain, cached)
    assert (cached.path / "computed").is_dir()


def test_the_files_hold_every_token_of_the_examples_once(encoder: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = trained(encoder, tiny_data, tmp_path, "--tuning.cache")
    from backend.data.prepared import Split

    (file,) = run.path.glob("computed/frozen-*/states-*.bin")
    split = Split.open(run.data, "train")
    assert file.stat().st_size == int(split.lengths.sum()) * 32 * 4
    states = torch.from_file(str(file), size=file.stat().st_size // 4).reshape(-1, 32)
    ids = torch.tensor([split.features([0])[0]["input_ids"]])
    model = AutoModel.from_pretrained(encoder)
    first = model(ids, output_hidden_states=True).hidden_states[1][0]
    torch.testing.assert_close(states[: ids.shape[1]], first, rtol=0, atol=1e-5)


@pytest.mark.parametrize("packing", ["--task.packing", "--no-task.packing"])
def test_a_decoder_learns_the_same(
    packing: str, decoder: Path, tiny_data: Path, tmp_path: Path, computed: list[int]
) -> None:
    flags = ["--task.name", "causal-language-modelling", packing, "--data.columns", "text=text"]
    plain = trained(decoder, tiny_data, tmp_path / "plain", *flags)
    computed.clear()
    cached = trained(decoder, tiny_data, tmp_path / "cached", *flags, "--tuning.cache")
    assert set(computed) == {2}
    assert_same(plain, cached)


def test_two_passes_of_one_batch_look_up_the_same(
    encoder: Path, tiny_data: Path, tmp_path: Path, computed: list[int]
) -> None:
    flags = ["--objectives.r_drop", "on"]
    plain = trained(encoder, tiny_data, tmp_path / "plain", *flags)
    computed.clear()
    cached = trained(encoder, tiny_data, tmp_path / "cached", *flags, "--tuning.cache")
    assert set(computed) == {1}
    assert_same(plain, cached)


def test_a_frozen_head_alone_needs_no_layer(
    encoder: Path, tiny_data: Path, tmp_path: Path, computed: list[int]
) -> None:
    trained(encoder, tiny_data, tmp_path, "--tuning.layers", "0", "--tuning.cache")
    assert computed == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tuning.layers", "2"], "but the lowest layer is trained; set tuning.cache to off"),
        (["--tuning.frozen", '["encoder.layer.0"]'], "but the lowest embedding is trained; set tuning.cache to off"),
        (["--tuning.cache_gb", "1e-6"], "tokens, but tuning.cache_gb is 0.00; make room, or set tuning.cache to off"),
    ],
)
def test_what_cannot_be_kept_is_an_error_that_says_why(
    flags: list[str], message: str, encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        trained(encoder, tiny_data, tmp_path, "--tuning.cache", *flags)
    assert message in str(caught.value)


def test_a_model_that_does_not_compute_the_same_each_time_is_refused(
    encoder: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = BertLayer.forward
    calls = {"number": 0}

    def drifting(layer: Any, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        calls["number"] += 1
        return forward(layer, hidden, *args, **kwargs) * (1 + calls["number"] / 100)

    monkeypatch.setattr(BertLayer, "forward", drifting)
    with pytest.raises(UserError, match=r"examples differ by .* when their frozen layers are looked up"):
        trained(encoder, tiny_data, tmp_path, "--tuning.cache")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": {"fgm": {}}}, "objectives.fgm moves the words; leave one of them out"),
        ({"tuning": {"embeddings": True}}, "but they are trained; leave out cache or embeddings"),
        ({"task": {"name": "masked-language-modelling"}}, "needs the same examples in every pass"),
        ({"task": {"name": "translation"}}, "models for Translation have two; leave it out"),
    ],
)
def test_a_job_that_cannot_have_it_is_refused_when_it_is_read(settings: dict[str, Any], message: str) -> None:
    tuning = {"name": "freeze", "cache": True, **settings.get("tuning", {})}
    with pytest.raises(UserError) as caught:
        parse_job({"model": "m", "data": {"train": "t.csv"}, **settings, "tuning": tuning})
    assert message in str(caught.value)


def test_a_session_that_goes_on_takes_the_files_as_they_are(encoder: Path, tiny_data: Path, tmp_path: Path) -> None:
    whole = trained(encoder, tiny_data, tmp_path / "whole", "--tuning.cache")
    stopped = RunDir.create(tmp_path / "stopped", whole.job)
    stopped.request_stop(60)
    train(parse(["--job", str(stopped.job_file)]), connect())
    assert stopped.status().state == "stopped"
    (file,) = stopped.path.glob("computed/frozen-*/states-0.bin")
    written = file.stat().st_mtime_ns
    train(parse(["--job", str(stopped.job_file), "--resume"]), connect())
    assert file.stat().st_mtime_ns == written
    weights, others = (load_file(run.model / "model.safetensors") for run in (whole, stopped))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
