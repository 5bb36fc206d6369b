from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from backend.answering import Predictor
from backend.interfaces import GENERATED, IGNORED, Context, Features, Generation
from backend.tasks.causal_language_modelling import CausalLanguageModelling
from backend.tokenizer import Tokenizer

TASK = CausalLanguageModelling()
EOS = 258


@pytest.fixture
def tokenizer(byte_tokenizer: Callable[..., Tokenizer]) -> Tokenizer:
    return byte_tokenizer()


def context(tokenizer: Tokenizer, **options: Any) -> Context:
    return Context(CausalLanguageModelling.Options(**options), (), ("text",), tokenizer)


def encoded(text: str, given: Context) -> list[Features]:
    (windows,) = TASK.encode([{"text": text}], given)
    return windows


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer._fast.encode(text, add_special_tokens=False).ids)


def test_every_token_but_the_first_counts_and_the_end_too(tokenizer: Tokenizer) -> None:
    (window,) = encoded("春眠 a", context(tokenizer))

    tokens = [*ids(tokenizer, "春眠 a"), EOS]
    assert window["input_ids"] == tokens
    assert window["attention_mask"] == [1] * 9
    assert window["labels"] == [IGNORED, *tokens[1:]]
    assert TASK.target_count(window) == 8


def test_a_long_text_is_cut_so_that_each_token_counts_once(tokenizer: Tokenizer) -> None:
    text = "".join(chr(ord("A") + number % 50) for number in range(46))
    tokens = [*ids(tokenizer, text), EOS]

    windows = encoded(text, context(tokenizer, max_length=16))

    assert [len(window["input_ids"]) for window in windows] == [16, 16, 16, 2]
    assert [label for window in windows for label in window["labels"] if label != IGNORED] == tokens[1:]
    assert [window["input_ids"][0] for window in windows] == [tokens[0], tokens[15], tokens[30], tokens[45]]


def test_a_text_is_written_on_from_its_end_with_room_for_what_follows(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, max_length=16, generation=Generation(max_new_tokens=6))

    windows = encoded("abcdefghijklmnopqrstuvwxyz", given)

    assert [tokenizer.text(TASK.prompt(window)["input_ids"]) for window in windows] == ["z", "qrstuvwxyz"]
    assert TASK.prompt(windows[1]) == {"input_ids": ids(tokenizer, "qrstuvwxyz"), "attention_mask": [1] * 10}


def test_what_the_tokenizer_adds_is_kept_once(tokenizer: Tokenizer) -> None:
    from tokenizers import processors

    tokenizer._fast.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 257), ("</s>", EOS)]
    )

    (window,) = encoded("ab", context(tokenizer))

    assert window["input_ids"] == [257, *ids(tokenizer, "ab"), EOS]
    assert window["prompt"] == [257, *ids(tokenizer, "ab")]


def test_a_decoder_with_the_vocabulary_of_a_bert_ends_texts_with_its_separator(
    byte_tokenizer: Callable[..., Tokenizer],
) -> None:
    tokenizer = byte_tokenizer(eos_token=None, sep_token="<|im_end|>")  # noqa: S106 - a token of text

    (window,) = encoded("ab", context(tokenizer))

    assert window["input_ids"] == [*ids(tokenizer, "ab"), 260]
    assert TASK.stop_ids(context(tokenizer)) == (260,)


def test_packing_joins_texts_and_can_be_left_out(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, max_length=16)
    windows = [*encoded("abc", given), *encoded("defghi", given)]

    assert TASK.pack(windows, given) == [
        {
            "input_ids": [*ids(tokenizer, "defghi"), EOS, *ids(tokenizer, "abc"), EOS],
            "position_ids": [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3],
            "labels": [IGNORED, *ids(tokenizer, "efghi"), EOS, IGNORED, *ids(tokenizer, "bc"), EOS],
        }
    ]
    assert TASK.pack(windows, context(tokenizer, packing=False)) == windows


def test_the_windows_of_a_text_merge_to_one_perplexity(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, max_length=16)
    row = {"text": "a" * 40}
    windows = encoded(row["text"], given)
    logits = np.zeros((16, 262), dtype=np.float32)
    logits[:, ids(tokenizer, "a")[0]] = 1

    parts = [TASK.read(window, {"logits": logits}, given) for window in windows]
    prediction = TASK.decode(parts, row, given)

    total = np.log(np.exp(1) + 261) * 40 - 39
    assert prediction == {"nll": pytest.approx(total), "tokens": 40, "hits": 39}
    report = TASK.score([prediction], [row], given)
    assert report.metrics["perplexity"] == pytest.approx(np.exp(total / 40))
    assert report.metrics["token_accuracy"] == 39 / 40


def test_the_answer_is_what_follows_the_last_window(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, max_length=16)
    windows = encoded("a" * 40, given)
    written = [{GENERATED: np.array(ids(tokenizer, text))} for text in ("no", "no", " yes\n好 好")]

    parts = [TASK.read(window, outputs, given) for window, outputs in zip(windows, written, strict=True)]

    assert TASK.decode(parts, {"text": "a" * 40}, given) == {"text": " yes\n好好"}


def test_an_evaluation_writes_nothing() -> None:
    options = CausalLanguageModelling.Options(max_length=64, generation=Generation(max_new_tokens=500, top_k=3))

    assert TASK.generation(options, evaluating=True) is None
    assert TASK.generation(options, evaluating=False) == Generation(max_new_tokens=32, top_k=3)


def test_text_files_are_read() -> None:
    assert TASK.files == {".txt": "text", "/": "text"}


@pytest.mark.parametrize(("text", "half"), [("abcdef", "abc"), ("春眠不", "春眠"), ("a", "a")])
def test_the_question_of_a_row_is_its_first_half(text: str, half: str) -> None:
    assert TASK.question({"text": text}) == {"text": half}


class Echo:
    """Writes the last token of its prompt, then the end."""

    longest = None

    def written(self, batch: Mapping[str, Any]) -> list[list[int]]:
        return [[int(token) for token in row] for row in batch["input_ids"]]

    def start(self, batch: Mapping[str, Any], beams: int, room: int) -> Any:
        return np.eye(262)[batch["input_ids"][:, -1]]

    def step(self, tokens: Any, origin: Any) -> Any:
        return np.eye(262)[[EOS] * len(tokens)]

    def steps(self) -> Echo:
        return self

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


def test_a_long_text_is_written_on_and_streamed_from_its_end(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, max_length=16, generation=Generation(max_new_tokens=4))
    predictor = Predictor(TASK, given, Echo())
    row = {"text": "a" * 39 + "b"}

    assert predictor.predict([row]) == [{"text": "b"}]
    assert list(predictor.stream(row))[-1] == "b"
