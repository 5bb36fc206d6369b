from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors

from backend.errors import UserError
from backend.interfaces import IGNORED, Context, Features
from backend.tasks.masked_language_modelling import MaskedLanguageModelling
from backend.tokenizer import Tokenizer

TASK = MaskedLanguageModelling()
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrst", "##ing", "walk", "春", "天"]
MASK, SPECIAL = 4, {0, 1, 2, 3, 4}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    fast = FastTokenizer(models.WordPiece({token: number for number, token in enumerate(TOKENS)}, unk_token="[UNK]"))  # noqa: S106
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast.decoder = decoders.WordPiece()
    fast.add_special_tokens(TOKENS[:5])
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return Tokenizer(fast, names, ("input_ids", "attention_mask", "token_type_ids"))


def context(tokenizer: Tokenizer, **options: Any) -> Context:
    return Context(MaskedLanguageModelling.Options(**options), (), ("text",), tokenizer)


def encoded(text: str, given: Context) -> list[Features]:
    (windows,) = TASK.encode([{"text": text}], given)
    return windows


def restored(window: Features) -> list[int]:
    return [
        token if label == IGNORED else label for token, label in zip(window["input_ids"], window["labels"], strict=True)
    ]


LETTERS = "a b c d e f g h i j k l m n o p q r s t"


def test_a_share_of_the_tokens_counts_and_no_special_one(tokenizer: Tokenizer) -> None:
    (window,) = encoded(LETTERS, context(tokenizer))

    assert restored(window) == [2, *range(5, 25), 3]
    assert TASK.target_count(window) == 3
    assert set(window) == {"input_ids", "attention_mask", "token_type_ids", "labels"}


def test_the_same_text_is_masked_in_the_same_way(tokenizer: Tokenizer) -> None:
    given = context(tokenizer)

    assert encoded(LETTERS, given) == encoded(LETTERS, given)
    assert encoded(LETTERS, given)[0]["labels"] != encoded(LETTERS[::-1], given)[0]["labels"]


@pytest.mark.parametrize(("text", "count"), [("a", 1), ("a b c d", 1), ("Z Z a Z", 1), ("Z", 0)])
def test_a_short_text_has_one_target_if_it_has_a_known_token(tokenizer: Tokenizer, text: str, count: int) -> None:
    (window,) = encoded(text, context(tokenizer))

    assert TASK.target_count(window) == count


def test_a_long_text_has_several_windows(tokenizer: Tokenizer) -> None:
    windows = encoded(LETTERS, context(tokenizer, max_length=12))

    assert [restored(window) for window in windows] == [[2, *range(5, 15), 3], [2, *range(15, 25), 3]]


def test_each_pass_masks_other_tokens_but_as_many_and_never_special_ones(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, mask_share=0.4)
    (window,) = encoded("a b Z c d", given)
    (long,) = encoded(LETTERS, given)
    random = np.random.default_rng(0)
    masked = kept = 0
    places = set()

    for _ in range(200):
        assert TASK.target_count(TASK.vary(window, random, given)) == 2
        varied = TASK.vary(long, random, given)
        long = varied  # one pass may build on the one before
        assert restored(varied) == [2, *range(5, 25), 3]
        assert TASK.target_count(varied) == 8
        chosen = [place for place, label in enumerate(varied["labels"]) if label != IGNORED]
        inputs = [varied["input_ids"][place] for place in chosen]
        assert not {varied["labels"][place] for place in chosen} & SPECIAL
        assert not set(inputs) & (SPECIAL - {MASK})
        masked += inputs.count(MASK)
        kept += sum(varied["input_ids"][place] == varied["labels"][place] for place in chosen)
        places |= set(chosen)

    assert masked / 1600 == pytest.approx(0.8, abs=0.03)
    # A tenth is left by intent; of the tenth that is drawn, a sixth is special and left, and some are drawn themselves.
    assert kept / 1600 == pytest.approx(0.1 + 0.1 * (5 + 1) / len(TOKENS), abs=0.03)
    assert places == set(range(1, 21))


def test_packing_joins_texts_to_examples_of_one_size(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, max_length=8, mask_share=0.5)
    windows = [*encoded("a b c", given), *encoded("d e", given), *encoded("f g h i", given)]

    examples = TASK.pack(windows, given)

    assert [restored(example) for example in examples] == [[2, 5, 6, 7, 3, 8, 9, 3], [2, 3, 10, 11, 12, 13, 3]]
    assert [TASK.target_count(example) for example in examples] == [2, 2]
    assert [example["attention_mask"] for example in examples] == [[1] * 8, [1] * 7]
    assert [example["token_type_ids"] for example in examples] == [[0] * 8, [0] * 7]


def test_perplexity_is_over_the_masked_tokens(tokenizer: Tokenizer) -> None:
    given = context(tokenizer)
    row = {"text": LETTERS}
    (window,) = encoded(LETTERS, given)
    logits = np.zeros((30, len(TOKENS)), dtype=np.float32)
    for place, label in enumerate(window["labels"]):
        if label != IGNORED:
            logits[place, label] = math.log(len(TOKENS) - 1)  # probability one half

    prediction = TASK.decode([TASK.read(window, {"logits": logits}, given)], row, given)

    assert TASK.score([prediction], [row], given).metrics == {
        "perplexity": pytest.approx(2),
        "loss": pytest.approx(math.log(2)),
        "masked_accuracy": 1.0,
    }


@pytest.mark.parametrize("mask", ["[MASK]", "<mask>"])
def test_masks_are_filled_with_the_likeliest_tokens(tokenizer: Tokenizer, mask: str) -> None:
    given = context(tokenizer)
    row = {"text": f"We walk {mask}, {mask}"}
    (window,) = encoded(row["text"], given)
    places = [place for place, token in enumerate(window["input_ids"]) if token == MASK]
    logits = np.zeros((len(window["input_ids"]) + 2, len(TOKENS)))
    logits[places[0], [TOKENS.index(token) for token in ("##ing", "walk", "a", "b", "c")]] = [9, 8, 7, 6, 5]
    logits[places[1], [TOKENS.index(token) for token in ("春", "[SEP]")]] = [9, 8]

    prediction = TASK.decode([TASK.read(window, {"logits": logits}, given)], row, given)

    assert set(window) == {"input_ids", "attention_mask", "token_type_ids"}
    assert prediction["text"] == "We walking, 春"
    tokens = [[choice["token"] for choice in choices] for choices in prediction["masks"]]
    assert tokens[0] == ["##ing", "walk", "a", "b", "c"]
    assert tokens[1][:2] == ["春", "[SEP]"]
    total = math.exp(9) + math.exp(8) + len(TOKENS) - 2
    assert prediction["masks"][1][0]["score"] == pytest.approx(math.exp(9) / total)


def test_masks_in_several_windows_keep_their_order(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, max_length=8)
    row = {"text": "a [MASK] b c d e f g [MASK]"}
    windows = encoded(row["text"], given)
    parts = []
    for window, token in zip(windows, ("春", "天"), strict=True):
        logits = np.zeros((8, len(TOKENS)))
        logits[:, TOKENS.index(token)] = 1
        parts.append(TASK.read(window, {"logits": logits}, given))

    assert TASK.decode(parts, row, given)["text"] == "a 春 b c d e f g 天"


@pytest.mark.parametrize(
    ("text", "to_learn", "to_predict"),
    [
        ("a b", [], ["has no mask; write [MASK] where the model shall tell a word"]),
        ("a [MASK]", ["holds a mask; training masks texts itself: write the word, or remove the row"], []),
        (" ", ["is empty; give it a text or remove the row"], ["is empty; give it a text or remove the row"]),
    ],
)
def test_faults_say_what_to_do(text: str, to_learn: list[str], to_predict: list[str]) -> None:
    row = {"text": text}

    assert list(TASK.faults(row, (), TASK.Options())) == [("text", problem) for problem in to_learn]
    assert list(TASK.input_faults(row)) == [("text", problem) for problem in to_predict]


def test_a_model_without_a_mask_is_refused(byte_tokenizer: Callable[..., Tokenizer]) -> None:
    with pytest.raises(UserError, match="has no mask token; take an encoder such as BERT or RoBERTa"):
        encoded("a", context(byte_tokenizer(mask_token=None)))


@pytest.mark.parametrize(
    ("text", "question"),
    [("We  walk home", "We  [MASK] home"), ("春眠不覺曉", "春眠[MASK]覺曉"), ("a b", "a [MASK]"), ("a", "[MASK]")],
)
def test_the_question_of_a_row_has_a_mask_in_its_middle(text: str, question: str) -> None:
    assert TASK.question({"text": text}) == {"text": question}
    assert list(TASK.input_faults({"text": question})) == []
