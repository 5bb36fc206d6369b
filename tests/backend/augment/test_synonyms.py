from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as FastTokenizer

from backend.augment.synonyms import Synonyms
from backend.errors import UserError
from backend.interfaces import Context, Row
from backend.methods import Material
from backend.spec import parse_job
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer

TASK = TASKS["text-classification"]
ROWS = [{"text": "word1 word2 GOOD word3, Good word4 word5", "label": "a"}]


def new_texts(model: Path, rows: Sequence[Row] = ROWS, seed: int = 0, **settings: Any) -> list[str]:
    fast = FastTokenizer.from_file(str(model / "tokenizer.json"))
    # The tiny tokenizer has no token for a mask; any that no text has will do.
    tokenizer = Tokenizer(fast, {"pad_token": "[PAD]", "mask_token": "[UNK]"})
    context = Context(TASK.Options.model_validate({}), ("a", "b"), (), tokenizer)
    material = Material(TASK, context, np.random.default_rng(seed), str(model), "main")
    return [row["text"] for row in Synonyms().grow(rows, Synonyms.Options(**settings), material)]


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of masked words whose embeddings hold "bad" close to "good"."""
    import shutil

    import torch
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("synonyms")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    vocabulary = FastTokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(tiny_model, tie_word_embeddings=False)
    net = BertForMaskedLM(config)
    table: Any = net.get_input_embeddings().weight.data
    table[vocabulary["bad"]] = 3 * table[vocabulary["good"]] + 0.001
    net.save_pretrained(folder)
    return folder


def test_a_word_becomes_its_nearest_neighbour_in_the_same_letters(model: Path) -> None:
    (text,) = new_texts(model, similarity=0.95, rate=1)

    assert text == "word1 word2 BAD word3, Bad word4 word5"


def test_no_row_comes_of_words_without_neighbours(model: Path) -> None:
    assert new_texts(model, [{"text": "word1 word2", "label": "a"}], similarity=0.95) == []


def test_a_masked_word_becomes_what_the_model_says_stands_there(model: Path) -> None:
    rows = [{"text": "word1 Good word2", "label": "a"}, {"text": "bad", "label": "a"}]

    # The two words of letters in the vocabulary: what is masked can only become the other one.
    assert new_texts(model, rows, by="masked") == ["word1 Bad word2", "good"]


def test_a_model_without_a_head_for_masked_words_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="has not learned to tell masked words"):
        new_texts(tiny_model, by="masked")


def test_a_table_says_which_words_are_alike(tiny_model: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("new york,gotham\nnew,fresh\n电影,影片\n", encoding="utf-8")
    rows = [
        {"text": "A New idea from New York", "label": "a"},
        {"text": "这部电影很好", "label": "b"},
        {"text": "nothing here", "label": "b"},
    ]

    assert new_texts(tiny_model, rows, by="table", table=str(table), rate=1) == [
        "A Fresh idea from Gotham",
        "这部影片很好",
    ]
    assert new_texts(tiny_model, rows[:1], by="table", table=str(table), rate=0.1, seed=1) in (
        ["A Fresh idea from New York"],
        ["A New idea from Gotham"],
    )


@pytest.mark.parametrize(
    ("content", "problem"), [("", "is empty"), ("one,two,three\n", "line 1: needs a word, a comma, a synonym")]
)
def test_a_table_that_says_nothing_is_refused(tiny_model: Path, tmp_path: Path, content: str, problem: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(content, encoding="utf-8")

    with pytest.raises(UserError, match=problem):
        new_texts(tiny_model, by="table", table=str(table))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({"by": "table"}, 'by "table" needs table'), ({"table": "t.csv"}, "table is not read where by is")],
)
def test_a_table_and_the_wish_for_one_go_together(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        parse_job({"model": "m", "data": {"train": "t.csv"}, "augment": {"synonyms": settings}})
