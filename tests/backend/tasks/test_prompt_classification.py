"""Labels as words in a pattern: what the model reads, what it is refused, and that ranks train it as one does."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import forked_ranks
import pytest
from safetensors.torch import load_file
from tiny_runs import argv, the_run
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, processors

from backend.arguments import parse
from backend.errors import UserError
from backend.interfaces import Context, Row
from backend.rank import connect
from backend.session import train
from backend.tasks.prompt_classification import PromptClassification
from backend.tokenizer import Tokenizer

TASK = PromptClassification()
LABELS = ("bad", "good")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bad", "good", "a", "film", "it", "was", "great", ".", "?", "so"]
PAD, UNK, CLS, SEP, MASK, BAD, GOOD, A, FILM, IT, WAS, GREAT, STOP, ASK, SO = range(len(WORDS))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    fast = FastTokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.add_special_tokens(WORDS[:5])
    fast.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    names = {f"{word[1:-1].lower()}_token": word for word in WORDS[:5]}
    return Tokenizer(fast, names, ("input_ids", "attention_mask"))


def context(tokenizer: Tokenizer, columns: tuple[str, ...] = ("text", "label"), **settings: Any) -> Context:
    options = TASK.Options(**{"pattern": "{text} it was {mask}.", "labels": LABELS, **settings})
    return Context(TASK.settle([], options), LABELS, columns, tokenizer)


def ids(row: Row, given: Context) -> list[int]:
    ((features,),) = TASK.encode([row], given)
    assert features["attention_mask"] == [1] * len(features["input_ids"])
    return features["input_ids"]


def test_a_text_is_read_in_the_pattern(tokenizer: Tokenizer) -> None:
    ((features,),) = TASK.encode([{"text": "a film", "label": " good"}], context(tokenizer))

    assert features["input_ids"] == [CLS, A, FILM, IT, WAS, MASK, STOP, SEP]
    assert features["labels"] == [1]
    ((features,),) = TASK.encode([{"text": "a film"}], context(tokenizer))
    assert "labels" not in features


def test_the_text_is_cut_and_the_pattern_stays(tokenizer: Tokenizer) -> None:
    assert ids({"text": "a film so great"}, context(tokenizer, max_length=8)) == [
        *(CLS, A, FILM),
        *(IT, WAS, MASK, STOP, SEP),
    ]


def test_of_a_pair_the_longer_text_is_cut(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, ("text", "text_pair"), pattern="{text}? {mask}. {text_pair}", max_length=8)

    assert ids({"text": "a film so great", "text_pair": "film"}, given) == [CLS, A, FILM, ASK, MASK, STOP, FILM, SEP]


def test_a_pattern_that_leaves_no_room_says_so(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="max_length is 5, but the pattern alone takes 6 tokens"):
        TASK.encode([{"text": "a"}], context(tokenizer, max_length=5))


def test_a_mask_in_the_text_is_not_the_one_that_is_told(tokenizer: Tokenizer) -> None:
    assert ids({"text": "a [MASK] film"}, context(tokenizer)) == [CLS, A, FILM, IT, WAS, MASK, STOP, SEP]


@pytest.mark.parametrize(
    ("columns", "pattern", "message"),
    [
        (("text", "text_pair"), "{text} {mask}", "has no {text_pair}, but the rows have one; write where it stands"),
        (("text",), "{text} {mask} {text_pair}", "has {text_pair}, but the rows have no such column; take it out"),
    ],
)
def test_a_pattern_has_the_texts_of_the_rows(
    tokenizer: Tokenizer, columns: tuple[str, ...], pattern: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        TASK.encode([{"text": "a", "text_pair": "a"}], context(tokenizer, columns, pattern=pattern))

    assert str(caught.value) == f'task.pattern: "{pattern}" {message}'


def test_a_label_without_a_word_stands_for_itself() -> None:
    rows = [{"label": "bad"}, {"label": "good"}]

    assert TASK.settle(rows, TASK.Options(verbalizers={"good": "great|good"})).verbalizers == {
        "bad": "bad",
        "good": "great|good",
    }
    with pytest.raises(UserError, match=r'task.verbalizers: "goo" is not one of bad, good; did you mean "good"\?'):
        TASK.settle(rows, TASK.Options(verbalizers={"goo": "great"}))


def test_a_word_that_the_model_has_not_is_refused_before_anything_is_encoded(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r'task.verbalizers: the word "awful" of the label "bad" is no word'):
        TASK.encode([], context(tokenizer, verbalizers={"bad": "awful"}))


def test_a_pattern_without_a_mask_is_no_job() -> None:
    argv = ["--model", "m", "--data.train", "t.csv", "--task.name", "prompt-classification"]

    with pytest.raises(UserError, match=r"task.pattern: has no \{mask\}; write it once, not '\{text\} It was'"):
        parse([*argv, "--task.pattern", "{text} It was"])


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-masked")
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **size, **still)).save_pretrained(
        folder
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._fast, **{f"{name}_token": token for name, token in tokenizer.special.items()}
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "films.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        rows = [("so " * (number % 7) + ("great film" if number % 2 else "a film"), number % 2) for number in range(43)]
        csv.writer(opened).writerows([("text", "label"), *((text, LABELS[label]) for text, label in rows)])
    return file


def flags(model: Path, data: Path, workspace: Path, **settings: object) -> list[str]:
    given: dict[str, object] = {
        "task.name": "prompt-classification",
        "task.pattern": "{text} it was {mask}.",
        "task.verbalizers": "good=great|good",
        "task.max_length": 16,
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "schedule.steps": 12,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 2e-3,
        "schedule.evaluate_every": 12,
        "precision": "fp32",
    }
    return argv(given, **settings)


def test_it_learns_which_word_belongs(model: Path, data: Path, tmp_path: Path) -> None:
    train(parse(flags(model, data, tmp_path, schedule__steps=60, schedule__evaluate_every=60)), connect())

    losses = [record["loss"] for record in the_run(tmp_path).metrics() if "grad_norm" in record]
    assert losses[0] > 0.6
    assert losses[-1] < 0.4


@pytest.mark.slow
def test_2_ranks_under_every_stage_train_what_one_process_does(model: Path, data: Path, tmp_path: Path) -> None:
    shared = {"schedule__accumulation_steps": 2}
    jobs = {
        stage: flags(model, data, tmp_path / f"{stage}", deepspeed=f"zero{stage}", **shared) for stage in (0, 1, 2, 3)
    }
    log = tmp_path / "ranks.log"
    running = forked_ranks.start(2, list(jobs.values()), log)
    train(parse(flags(model, data, tmp_path / "one")), connect())
    forked_ranks.finish(running, log)

    expected = the_run(tmp_path / "one")
    weights = load_file(expected.model / "model.safetensors")
    for stage in jobs:
        found = the_run(tmp_path / f"{stage}")
        assert [record["loss"] for record in found.metrics()] == pytest.approx(
            [record["loss"] for record in expected.metrics()], rel=1e-4
        )
        others = load_file(found.model / "model.safetensors")
        assert max(float((weights[name] - others[name]).abs().max()) for name in weights) <= 1e-4
