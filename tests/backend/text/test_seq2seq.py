"""What translation and summarization share, on tokenizers with the special tokens of T5, BART and BERT."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors

from backend.errors import UserError
from backend.interfaces import Context, Generation, Row
from backend.tasks.summarization import Summarization
from backend.text.seq2seq import examples, perplexity
from backend.tokenizer import Tokenizer

TASK = Summarization()
VOCABULARY = ("<pad>", "<s>", "</s>", "<unk>", "a", "b", "c", "开", "关")
A, B, C = 4, 5, 6

# What the tokenizer puts around a text, the ids that begin and end an answer, and the labels of "a b" with them.
T5 = ("$A </s>", 0, (2,), [A, B, 2])
BART = ("<s> $A </s>", 2, (2,), [1, A, B, 2])
BERT = ("<s> $A </s>", 1, (2,), [A, B, 2])
BARE = ("$A", 1, (2, 3), [A, B, 2])


def context(form: tuple[Any, ...] = T5, **options: Any) -> Context:
    template, start, stops, *_ = form
    fast = FastTokenizer(models.WordLevel({token: number for number, token in enumerate(VOCABULARY)}, "<unk>"))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast.post_processor = processors.TemplateProcessing(template, special_tokens=[("<s>", 1), ("</s>", 2)])
    fast.add_special_tokens(list(VOCABULARY[:4]))
    fast.decoder = decoders.WordPiece("##")
    config = {"pad_token": "<pad>", "decoder_start_token_id": start, "stop_token_ids": list(stops)}
    tokenizer = Tokenizer(fast, config, ("input_ids", "attention_mask", "token_type_ids"))
    return Context(Summarization.Options(**options), (), ("source", "target"), tokenizer)


@pytest.mark.parametrize("form", [T5, BART, BERT, BARE], ids=["t5", "bart", "bert", "bare"])
def test_labels_are_what_stands_after_the_start_and_end_with_a_stop(form: tuple[Any, ...]) -> None:
    start, labels = form[1], form[3]

    ((features,),) = TASK.encode([{"source": "c", "target": "a b"}], context(form))

    assert features["labels"] == labels
    assert features["decoder_input_ids"] == [start, *labels[:-1]]
    assert set(features) == {"input_ids", "attention_mask", "labels", "decoder_input_ids"}


@pytest.mark.parametrize("form", [T5, BART, BERT, BARE], ids=["t5", "bart", "bert", "bare"])
def test_a_long_target_is_cut_and_still_ends_with_a_stop(form: tuple[Any, ...]) -> None:
    ((features,),) = TASK.encode([{"source": "c", "target": "a b c a b c"}], context(form, max_target_length=4))

    assert len(features["labels"]) <= 4
    assert features["labels"][-1] == 2


def test_a_source_is_cut_and_has_the_prefix() -> None:
    ((features,),) = TASK.encode([{"source": "c c c c c"}], context(max_length=4, prefix="a b "))

    assert features == {"input_ids": [A, B, C, 2], "attention_mask": [1, 1, 1, 1]}


def test_rows_with_and_without_a_target_keep_their_places() -> None:
    rows: list[Row] = [{"source": "a"}, {"source": "b", "target": "c"}, {"source": "c", "target": None}]

    (first,), (second,), (third,) = TASK.encode(rows, context())

    assert [one["input_ids"] for one in (first, second, third)] == [[A, 2], [B, 2], [C, 2]]
    assert second["labels"] == [C, 2]
    assert not {"labels", "decoder_input_ids"} & (first.keys() | third.keys())
    assert [TASK.length(one) for one in (first, second)] == [2, 4]


def test_an_answer_is_written_from_the_source_alone() -> None:
    ((features,),) = TASK.encode([{"source": "c", "target": "a b"}], context())

    assert TASK.prompt(features) == {"input_ids": [C, 2], "attention_mask": [1, 1]}


@pytest.mark.parametrize(
    ("start", "stops", "named"), [(None, (2,), "decoder_start_token_id"), (0, (), "eos_token")], ids=["start", "stop"]
)
def test_a_model_that_does_not_say_how_answers_begin_and_end_is_refused(
    start: int | None, stops: tuple[int, ...], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        TASK.encode([{"source": "a", "target": "b"}], context(("$A", start, stops)))


def test_a_written_text_comes_without_special_tokens_and_gaps_between_chinese_characters() -> None:
    part = TASK.read({"input_ids": [A, 2], "attention_mask": [1, 1]}, {"generated": np.array([1, 7, 8, A])}, context())

    assert part == {"text": "开关 a"}
    assert TASK.decode([part], {"source": "a"}, context()) == {"text": "开关 a"}


def test_an_evaluation_also_tells_how_unlikely_the_target_is() -> None:
    logits = np.random.default_rng(0).normal(size=(100, 9)).astype(np.float32) * 30
    labels = [number % 9 for number in range(70)]
    features = {"input_ids": [A, 2], "attention_mask": [1, 1], "labels": labels}

    part = TASK.read(features, {"logits": logits, "generated": np.array([], dtype=np.int64)}, context())

    chances = np.exp(logits[:70].astype(np.float64))
    expected = -np.log(chances / chances.sum(axis=-1, keepdims=True))[np.arange(70), labels].sum()
    hits = int((logits[:70].argmax(axis=-1) == labels).sum())
    assert part == {"text": "", "nll": pytest.approx(expected), "tokens": 70, "hits": hits}


def test_perplexity_is_that_of_a_token() -> None:
    assert perplexity([{"nll": 6 * math.log(2), "tokens": 2}, {"nll": 0.0, "tokens": 1}]) == {
        "perplexity": pytest.approx(4.0)
    }
    assert perplexity([{"text": "no target was known"}]) == {}
    assert perplexity([{"nll": 1e6, "tokens": 1}])["perplexity"] == math.exp(700)


def test_an_evaluation_writes_without_chance_and_with_its_own_beams() -> None:
    generation = Generation(num_beams=4, do_sample=True, max_new_tokens=7)
    options = Summarization.Options(generation=generation, evaluation_beams=2)

    assert TASK.generation(options, evaluating=False) == generation
    assert TASK.generation(options, evaluating=True) == Generation(num_beams=2, max_new_tokens=7)


def test_a_table_shows_the_first_answers() -> None:
    table = examples({"reference": list("abcdefg"), "answer": list("ABCDEFG")})

    assert table.columns == ("reference", "answer")
    assert table.rows == (("a", "A"), ("b", "B"), ("c", "C"), ("d", "D"), ("e", "E"))
