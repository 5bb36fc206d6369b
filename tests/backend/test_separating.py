"""How a tokenizer is kept from joining Chinese characters, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from backend.text.words import UNSPACED
from backend.tokenizer import FREQUENT, Tokenizer

CONFIG = {"pad_token": "[PAD]"}
CHARACTERS = f"[{UNSPACED}]"


def byte_level() -> FastTokenizer:
    fast = FastTokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["[PAD]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator([FREQUENT, "the people", "the place"] * 9, trainer)
    return fast


def unigrams() -> FastTokenizer:
    pieces = [("[PAD]", 0.0), ("▁the", -3.0), ("▁", -3.0), (FREQUENT, -3.0), ("北京", -3.0)]
    fast = FastTokenizer(models.Unigram([*pieces, *((one, -9.0) for one in dict.fromkeys(FREQUENT))], unk_id=0))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    return fast


def no_cuts() -> FastTokenizer:
    fast = unigrams()
    fast.pre_tokenizer = None
    return fast


@pytest.mark.parametrize("make", [byte_level, unigrams, no_cuts])
def test_no_two_chinese_characters_share_a_token(make: Callable[[], FastTokenizer]) -> None:
    tokenizer = Tokenizer(make(), CONFIG)
    separating = tokenizer.separating(CHARACTERS)
    text = f"the {FREQUENT}"

    (joined,), (apart,) = tokenizer.whole([text]), separating.whole([text])

    chinese = range(4, len(text))
    assert any(end - start > 1 and end > 5 for start, end in joined.offsets)
    assert {place for place in apart.offsets if place[1] > 4} == {(place, place + 1) for place in chinese}
    assert separating is tokenizer.separating(CHARACTERS)
    assert tokenizer.whole(["the"])[0].ids == separating.whole(["the"])[0].ids


def test_a_tokenizer_that_joins_none_is_taken_as_it_is() -> None:
    fast = FastTokenizer(models.WordPiece({"[PAD]": 0, "[UNK]": 1, "て": 2, "##す": 3}, unk_token="[UNK]"))  # noqa: S106
    fast.normalizer = normalizers.BertNormalizer()
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = Tokenizer(fast, CONFIG)

    assert tokenizer.separating(CHARACTERS) is tokenizer
