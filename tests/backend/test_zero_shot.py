"""Every way to tell labels without training gives the numbers that the model itself gives, asked label by label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from backend.errors import UserError
from backend.text.zero_shot import ZeroShot, check
from backend.zero_shot import entailment_of, zero_shot

LABELS = ("sport", "fine art")
TEXTS = ["the match was lost", "a picture of the sea by an unknown painter", "sport"]
BEHIND = "must have the texts, and words behind them, before {label}, which goes on from there"
ROWS: list[dict[str, Any]] = [{"text": text} for text in TEXTS]
SaveTinyModel = Callable[[Path, str, Any], Path]


@pytest.fixture(scope="module")
def encoder(save_tiny_model: SaveTinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("encoder"), "text-classification", [*TEXTS, *LABELS, "It was ."])


@pytest.fixture(scope="module")
def decoder(save_tiny_model: SaveTinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("decoder"), "causal-language-modelling", [*TEXTS, *LABELS])


@pytest.fixture(scope="module")
def nli(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nli")
    names = {0: "contradiction", 1: "ENTAILMENT", 2: "neutral"}
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(encoder, id2label=names)
    model.classifier.weight.data.normal_(0, 1)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    return folder


def scores(settings: ZeroShot, rows: list[dict[str, Any]] = ROWS) -> list[list[float]]:
    answers = zero_shot(settings).predict(rows)
    assert all(answer["label"] == max(answer["scores"], key=answer["scores"].get) for answer in answers)
    assert all(tuple(answer["scores"]) == settings.labels for answer in answers)
    return [list(answer["scores"].values()) for answer in answers]


def test_entailment_is_the_share_among_the_hypotheses(nli: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(nli).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(nli)

    def entailed(text: str, label: str) -> torch.Tensor:
        inputs = tokenizer(text, f"It is about {label}.", return_tensors="pt")
        return model(**inputs).logits[0, 1]

    with torch.no_grad():
        expected = [torch.stack([entailed(text, label) for label in LABELS]).softmax(0).tolist() for text in TEXTS]
    found = scores(ZeroShot(model=str(nli), labels=LABELS, pattern="It is about {label}."))

    assert found == [pytest.approx(row, abs=1e-5) for row in expected]
    assert max(row[0] for row in found) - min(row[0] for row in found) > 0.001


@pytest.mark.parametrize("calibrate", [False, True])
def test_likelihood_is_that_of_the_label_after_the_text(decoder: Path, calibrate: bool) -> None:  # noqa: FBT001 - a case
    model = transformers.AutoModelForCausalLM.from_pretrained(decoder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(decoder)

    def chances(text: str, label: str) -> torch.Tensor:
        start = tokenizer(f"{text}: about", add_special_tokens=False)["input_ids"]
        whole = tokenizer(f"{text}: about {label}", add_special_tokens=False)["input_ids"]
        assert whole[: len(start)] == start
        ids = torch.tensor([[tokenizer.cls_token_id, *whole]])
        each = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        return each[len(start) :]

    def fits(text: str, label: str) -> torch.Tensor:
        if calibrate:
            return chances(text, label).sum() - chances("", label).sum()
        return chances(text, label).mean()

    with torch.no_grad():
        expected = [torch.stack([fits(text, label) for label in LABELS]).softmax(0).tolist() for text in TEXTS]
    asked = {"by": "likelihood", "pattern": "{text}: about {label}.", "calibrate": calibrate}
    found = scores(ZeroShot(model=str(decoder), labels=LABELS, **asked))

    assert found == [pytest.approx(row, abs=1e-4) for row in expected]


def test_a_prompt_is_answered_by_the_words_at_the_mask(encoder: Path) -> None:
    model = transformers.AutoModelForMaskedLM.from_pretrained(encoder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    words = [tokenizer.convert_tokens_to_ids(["Ġsport"]), tokenizer.convert_tokens_to_ids(["Ġart", "Ġfine"])]

    def logits(text: str) -> torch.Tensor:
        inputs = tokenizer(f"{text} It was [MASK].", return_tensors="pt")
        return model(**inputs).logits[0, inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)]

    with torch.no_grad():
        expected = [torch.stack([logits(text)[ids].mean() for ids in words]).softmax(0).tolist() for text in TEXTS]
    asked = {"by": "prompt", "verbalizers": {"fine art": "art|fine"}}
    found = scores(ZeroShot(model=str(encoder), labels=LABELS, **asked))

    assert found == [pytest.approx(row, abs=1e-5) for row in expected]


@pytest.mark.parametrize("by", ["entailment", "likelihood"])
def test_of_a_text_that_is_too_long_only_the_text_is_cut(by: str, nli: Path, decoder: Path) -> None:
    model = nli if by == "entailment" else decoder
    predictor = zero_shot(ZeroShot(model=str(model), labels=LABELS, by=by, max_length=40))
    words = "sea " * 60

    (windows,) = predictor.task.encode([{"text": words}], predictor.context)

    assert [len(window["input_ids"]) for window in windows] == [40, 40]
    tokenizer = predictor.context.tokenizer
    for window, label in zip(windows, LABELS, strict=True):
        text = tokenizer.text(window["input_ids"])
        assert text.startswith("sea sea")
        assert f"This example is {label}" in text


def test_a_model_without_the_part_that_tells_words_is_refused(sample_model_path: Path) -> None:
    with pytest.raises(UserError, match="was saved without the part that tells masked words, so that it would guess"):
        zero_shot(ZeroShot(model=str(sample_model_path), labels=("good", "bad"), by="prompt"))


@pytest.mark.parametrize("labels", [{0: "LABEL_0", 1: "LABEL_1"}, {0: "not_entailed", 1: "neutral"}])
def test_a_model_that_names_no_entailment_is_refused_with_its_labels(labels: dict[int, str]) -> None:
    with pytest.raises(UserError, match=rf"means entailment cannot be told: {labels[0]}, {labels[1]}; take a model"):
        entailment_of(transformers.BertConfig(id2label=labels), "m")


def test_the_label_that_begins_so_means_entailment() -> None:
    config = transformers.BertConfig(id2label={0: "not_entailment", 1: "neutral", 2: "Entailment"})

    assert entailment_of(config, "m") == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ("a",)}, '--labels "a": give at least two different ones, such as --labels sport,art'),
        ({"labels": ("a", "a")}, '--labels "a,a": give at least two different ones, such as --labels sport,art'),
        ({"calibrate": True}, "--calibrate is for --by likelihood alone, not entailment; leave it out"),
        (
            {"by": "likelihood", "verbalizers": {"a": "b"}},
            "--verbalizers is for --by prompt alone, not likelihood; leave it out",
        ),
        ({"pattern": "about"}, '--pattern "about": has no {label}; write it once'),
        ({"pattern": "{text} {label}"}, '--pattern "{text} {label}": has {text}, which is none of {label}'),
        ({"by": "likelihood", "pattern": "{label}"}, '--pattern "{label}": has no {text}; write it once'),
        (
            {"by": "likelihood", "pattern": "{text} {label}"},
            f'--pattern "{{text}} {{label}}": {BEHIND}',
        ),
        (
            {"by": "likelihood", "pattern": "about {label}: {text}"},
            f'--pattern "about {{label}}: {{text}}": {BEHIND}',
        ),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(ZeroShot.model_validate({"model": "m", "labels": ("a", "b"), **settings}))

    assert str(caught.value) == message
