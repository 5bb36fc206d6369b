from __future__ import annotations

import pytest
from tokenizers import Encoding, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from backend.errors import UserError
from backend.text.prompts import fill, pattern_fault, pieces_within, shortened, word_ids
from backend.tokenizer import Tokenizer


def wordpiece() -> Tokenizer:
    vocabulary = ["[PAD]", "[UNK]", "[MASK]", "great", "good", "bad", "terrib", "##le", "it", "was", "."]
    fast = FastTokenizer(models.WordPiece(vocab={word: number for number, word in enumerate(vocabulary)}))
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.add_special_tokens(["[PAD]", "[UNK]", "[MASK]"])
    return Tokenizer(fast, {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"})


def byte_level() -> Tokenizer:
    """Return a tokenizer for which a word after a space is another token than the same word at the start of a line."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("b", "a"), ("ba", "d"), ("Ġ", "bad")]
    tokens = [*letters, *("".join(pair) for pair in merges), "<pad>"]
    fast = FastTokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Tokenizer(fast, {"pad_token": "<pad>"})


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("{text} It was {mask}.", ""),
        ("{mask}: {text} {text_pair}", ""),
        ("It was {mask}.", "has no {text}; write it once"),
        ("{text} {mask} {mask}", "has 2 times {mask}; write it once"),
        ("{text} {mask} {text_pair}{text_pair}", "has 2 times {text_pair}; write it once"),
        ("{text} {mask} {label}", "has {label}, which is none of {text}, {mask}, {text_pair}"),
        ("{text} {} {mask}", "has {}, which is none of {text}, {mask}, {text_pair}"),
    ],
)
def test_a_pattern_has_each_of_its_places_once(pattern: str, fault: str) -> None:
    assert pattern_fault(pattern, ("text", "mask"), ("text_pair",)) == fault


def test_values_are_put_in_their_places_and_never_read_as_places() -> None:
    filled = fill("{mask}: {text}!", {"text": "a {mask} b", "mask": "[M]"})

    assert filled.text == "[M]: a {mask} b!"
    assert {name: filled.text[slice(*place)] for name, place in filled.places.items()} == {
        "mask": "[M]",
        "text": "a {mask} b",
    }


def encoded(text: str) -> Encoding:
    return wordpiece().whole([text])[0]


def test_the_pieces_of_a_place_are_those_that_lie_in_it() -> None:
    assert pieces_within(encoded("it was terrible."), (7, 15)) == [2, 3]
    assert pieces_within(encoded("it was terrible."), (7, 14)) == [2]


def test_the_longer_text_loses_its_last_pieces_and_the_pattern_none() -> None:
    assert shortened(range(10), [[1, 2, 3, 4, 5], [7, 8]], 10) == list(range(10))
    assert shortened(range(10), [[1, 2, 3, 4, 5], [7, 8]], 7) == [0, 1, 2, 6, 7, 8, 9]
    assert shortened(range(10), [[1, 2, 3, 4, 5], [7, 8]], 3) == [0, 6, 9]
    with pytest.raises(UserError, match="max_length is 2, but the pattern alone takes 3 tokens; raise it, or write"):
        shortened(range(10), [[1, 2, 3, 4, 5], [7, 8]], 2)


def test_words_are_tokens_of_the_model() -> None:
    assert word_ids({"yes": "great|good", "no": "bad"}, "{text} {mask}", wordpiece()) == ((3, 4), (5,))


@pytest.mark.parametrize(("pattern", "token"), [("It was {mask}. {text}", "Ġbad"), ("{mask}: {text}", "bad")])
def test_a_word_is_the_token_that_it_is_in_its_place(pattern: str, token: str) -> None:
    ((number,),) = word_ids({"no": "bad"}, pattern, byte_level())

    assert byte_level().token(number) == token


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"yes": "great", "no": "terrible"},
            'the word "terrible" of the label "no" is no word of the model, but 2 pieces (terrib, ##le); name one',
        ),
        ({"no": "zzz"}, 'the word "zzz" of the label "no" is no word of the model, but 1 pieces ([UNK])'),
        ({"no": "bad|"}, 'the word "" of the label "no" is no word of the model, but 0 pieces ()'),
        ({"yes": "good", "no": "bad|good"}, '"good" stands for "yes" and for "no"; give each label words of its own'),
    ],
)
def test_a_word_that_cannot_stand_for_a_label_is_refused(words: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        word_ids(words, "{text} {mask}", wordpiece())

    assert str(caught.value).startswith(f"task.verbalizers: {message}")
