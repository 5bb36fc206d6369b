from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors

from backend.data import samples
from backend.data.conll import read_conll
from backend.data.reading import Record, read_jsonl
from backend.errors import UserError
from backend.interfaces import IGNORED, Context, Features
from backend.tasks.token_classification import TokenClassification
from backend.text.entities import from_entities, from_tokens
from backend.text.tag_decoding import likeliest
from backend.tokenizer import Tokenizer

TASK = TokenClassification()
LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
OPTIONS = TokenClassification.Options(scheme="BIO")
CONFIG = {
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "model_input_names": ["input_ids", "attention_mask"],
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


@pytest.fixture(scope="module")
def word_pieces() -> Tokenizer:
    """Return a tokenizer such as BERT's: it takes accents off, and Chinese characters apart."""
    words = [*SPECIAL, "anna", "##na", "an", "lives", "in", "cafe", "北", "京", "👍", ".", *map(str, range(9))]
    fast = FastTokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106
    fast.normalizer = normalizers.BertNormalizer()
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return Tokenizer(fast, CONFIG)


@pytest.fixture(scope="module")
def unigrams() -> Tokenizer:
    """Return a tokenizer such as that of XLM-RoBERTa: it joins Chinese words, and has a mark for a space."""
    pieces = [*((token, 0.0) for token in SPECIAL), ("▁", -3.0), ("在北京", -2.0), ("anna", -4.0), ("▁anna", -3.0)]
    fast = FastTokenizer(models.Unigram([*pieces, *((one, -5.0) for one in "在北京👍")], unk_id=1))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return Tokenizer(fast, CONFIG)


def context(tokenizer: Tokenizer, labels: tuple[str, ...] = LABELS, **options: Any) -> Context:
    return Context(OPTIONS.model_copy(update=options), labels, ("text",), tokenizer)


def with_entities(text: str, *entities: tuple[int, int, str]) -> Any:
    return from_entities({"text": text, "entities": [list(entity) for entity in entities]})


def with_tags(text: str, tags: str) -> Any:
    return from_tokens({"tokens": text.split(), "tags": tags.split()})


def told(features: Features, labels: tuple[str, ...] = LABELS) -> list[str]:
    return ["-" if number == IGNORED else labels[number] for number in features["labels"]]


def answer(row: Any, given: Context) -> Any:
    """Answer a row as a model would that has learned it by heart, with more outputs than the window is long."""
    (windows,) = TASK.encode([row], given)
    parts = []
    for window in windows:
        logits = np.zeros((len(window["input_ids"]) + 2, len(given.labels)), dtype=np.float32)
        for place, label in enumerate(window["labels"]):
            logits[place, max(label, 0)] = 20
        parts.append(TASK.read(window, {"logits": logits}, given))
    return TASK.decode(parts, row, given)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (with_tags("Anna lives", "B-PER O"), "- B-PER O -"),
        (with_tags("Anna na", "B-PER I-PER"), "- B-PER I-PER -"),
        (with_entities("Anna lives in 北京.", (0, 4, "PER"), (14, 16, "LOC")), "- B-PER O O B-LOC I-LOC O -"),
        (with_entities("anna", (2, 4, "PER")), "- B-PER -"),
        (with_entities("👍北", (1, 2, "LOC")), "- O B-LOC -"),
        (with_entities("cafe\u0301 in", (0, 5, "LOC")), "- B-LOC O -"),
        (with_tags("e \u0301 in", "B-LOC I-LOC O"), "- B-LOC O -"),
    ],
)
def test_one_piece_of_each_word_has_the_tag_of_the_word(word_pieces: Tokenizer, row: Any, expected: str) -> None:
    ((features,),) = TASK.encode([row], context(word_pieces))

    assert told(features) == expected.split()
    assert TASK.target_count(features) == sum(label != "-" for label in expected.split())


def test_a_word_of_several_pieces_is_told_by_the_first(word_pieces: Tokenizer) -> None:
    ((features,),) = TASK.encode([with_tags("an anna lives", "O B-PER O")], context(word_pieces))
    ((longer,),) = TASK.encode([with_tags("anna ananna lives", "O B-PER O")], context(word_pieces))

    assert told(features) == ["-", "O", "B-PER", "O", "-"]
    assert told(longer)[:3] == ["-", "O", "B-PER"]
    assert longer["word_numbers"] == [0, 1, 2]


def test_chinese_characters_are_told_one_by_one_and_not_by_the_mark_before_them(unigrams: Tokenizer) -> None:
    row = with_entities("在北京 anna", (1, 3, "LOC"), (4, 8, "PER"))

    ((features,),) = TASK.encode([row], context(unigrams))

    assert [unigrams.token(number) for number in features["input_ids"]] == [
        *("[CLS]", "▁", "在", "北", "京", "▁anna", "[SEP]")
    ]
    assert told(features) == ["-", "-", "O", "B-LOC", "I-LOC", "B-PER", "-"]
    assert [(one["text"], one["label"]) for one in answer(row, context(unigrams))["entities"]] == [
        ("北京", "LOC"),
        ("anna", "PER"),
    ]


def test_rows_to_predict_have_no_targets(word_pieces: Tokenizer) -> None:
    ((features,),) = TASK.encode([{"text": "Anna lives"}], context(word_pieces))

    assert set(features) == {"input_ids", "attention_mask", "word_numbers", "word_pieces"}
    assert (features["word_numbers"], features["word_pieces"]) == ([0, 1], [1, 2])


@pytest.mark.parametrize("stride", [0, 1, 4, 30])
def test_windows_lose_no_entity_and_tell_each_word_once(word_pieces: Tokenizer, stride: int) -> None:
    tags = ["O", "B-LOC", "I-LOC", "I-LOC", "B-LOC", "O", "B-PER"] * 7
    row = from_tokens({"tokens": [str(number % 9) for number in range(49)], "tags": tags})
    given = context(word_pieces, max_length=8, stride=stride)

    (windows,) = TASK.encode([row], given)
    answered = answer(row, given)

    assert len(windows) > 8
    assert sorted(number for window in windows for number in window["word_numbers"]) == list(range(49))
    assert sum(TASK.target_count(window) for window in windows) == 49
    assert TASK.score([answered], [row], given).metrics["f1"] == 1


def test_the_order_of_the_labels_does_not_matter(word_pieces: Tokenizer) -> None:
    row = with_entities("Anna lives in 北京.", (0, 4, "PER"), (14, 16, "LOC"))
    expected = answer(row, context(word_pieces))

    assert [one["label"] for one in expected["entities"]] == ["PER", "LOC"]
    for labels in (LABELS[::-1], ("I-PER", "B-LOC", "O", "I-LOC", "B-PER")):
        assert answer(row, context(word_pieces, labels)) == expected


def test_entities_are_given_by_the_characters_of_the_text_with_their_mean_probability(word_pieces: Tokenizer) -> None:
    row = {"text": "👍 Anna na"}
    given = context(word_pieces)
    ((features,),) = TASK.encode([row], given)
    logits = np.log(
        [
            [0.2] * 5,
            [0.6, 0.1, 0.1, 0.1, 0.1],
            [0.1, 0.1, 0.1, 0.5, 0.2],
            [0.1, 0.1, 0.1, 0.1, 0.6],
            [0.2] * 5,
        ]
    )

    part = TASK.read(features, {"logits": logits}, given)

    assert part == {"words": [0, 1, 2], "tags": [0, 3, 4], "scores": [0.6, 0.5, 0.6]}
    assert TASK.decode([part], row, given) == {
        "entities": [{"start": 2, "end": 9, "label": "PER", "text": "Anna na", "score": 0.55}]
    }


def test_a_text_without_words_has_no_entities(word_pieces: Tokenizer) -> None:
    assert answer(with_entities("\u200b "), context(word_pieces)) == {"entities": []}


@pytest.mark.parametrize(
    ("probabilities", "begins", "expected"),
    [
        ([[0.4, 0.1, 0.5], [0.1, 0.6, 0.3]], True, ["O", "B-X"]),
        ([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], True, ["B-X", "I-X"]),
        ([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], False, ["I-X", "I-X"]),
        ([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]], True, ["B-X", "I-X"]),
    ],
)
def test_tags_are_the_likeliest_together_that_make_sense(
    *, probabilities: list[list[float]], begins: bool, expected: list[str]
) -> None:
    labels = ("O", "B-X", "I-X")

    path = likeliest(np.log(probabilities), labels, begins=begins)

    best = max(
        ((a, b) for a in range(3) for b in range(3) if not (a == 0 and b == 2) and not (begins and a == 2)),
        key=lambda pair: probabilities[0][pair[0]] * probabilities[1][pair[1]],
    )
    assert path == list(best)
    assert [labels[number] for number in path] == expected


def test_words_of_the_user_are_scored_as_they_are_and_others_to_the_character() -> None:
    given = context(None)  # type: ignore[arg-type]
    tokens = with_tags("Anna lives", "B-PER O")
    text = with_entities("annabel", (0, 4, "PER"))
    whole = {"entities": [{"start": 0, "end": 4, "label": "PER"}]}
    wide = {"entities": [{"start": 0, "end": 7, "label": "PER"}]}

    assert TASK.score([whole, whole], [tokens, text], given).metrics["f1"] == 1
    assert TASK.score([whole, wide], [tokens, text], given).metrics["f1"] == 0.5
    assert TASK.score([whole], [tokens], given).metrics["token_accuracy"] == 1


def test_labels_are_the_bio_tags_of_the_types_whatever_the_scheme() -> None:
    rows = [with_tags("a b", "B-PER E-PER"), with_tags("c", "S-LOC"), with_entities("d")]

    settled = TASK.settle(rows, TokenClassification.Options())

    assert settled.scheme == "BIOES"
    assert TASK.settle(rows, OPTIONS) == OPTIONS
    assert TASK.labels(rows, settled) == LABELS
    assert TASK.labels(rows, TokenClassification.Options(labels=("PER", "LOC", "ORG"))) == (
        *("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"),
    )


def test_a_rare_type_that_is_almost_a_frequent_one_and_one_without_a_name_are_no_classes() -> None:
    rows = [*[with_tags("a", "B-PERSON")] * 20, with_tags("a", "B-PERSN"), with_tags("a", "B")]

    labels = TASK.labels(rows, OPTIONS)

    assert labels == ("O", "B-PERSON", "I-PERSON")
    assert [list(TASK.faults(row, labels, OPTIONS)) for row in rows[-2:]] == [
        [("tags", '"PERSN" is not one of PERSON; did you mean "PERSON"?')],
        [("tags", '"entity" is not one of PERSON')],
    ]
    assert TASK.labels([with_tags("a", "B")], OPTIONS) == ("O", "B-entity", "I-entity")


def test_rows_without_any_entity_are_refused() -> None:
    with pytest.raises(UserError, match="no row has an entity; a model needs some to learn from"):
        TASK.labels([with_tags("a", "O"), with_entities("b")], OPTIONS)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (with_tags("a b", "B-PER I-PER"), []),
        (with_entities("a"), []),
        ({"text": " "}, [("text", "is empty; give it a text or remove the row"), ("entities", "EMPTY")]),
        (from_tokens({"tokens": ["a"], "tags": None}), [("tags", "is empty; give each token a tag")]),
        (with_entities("a", (0, 1, "PERS")), [("entities", '"PERS" is not one of LOC, PER; did you mean "PER"?')]),
        (
            with_tags("a b", "O I-X"),
            [
                (
                    "tags",
                    'token 2 "b" has "I-X", which goes on with an entity that has not begun; BIO begins one with "B-X"',
                ),
                ("tags", '"X" is not one of LOC, PER'),
            ],
        ),
    ],
)
def test_faults_say_what_to_do(row: Any, expected: list[tuple[str, str]]) -> None:
    empty = "is empty; list what stands where, or write [] for a text without entities"

    found = [
        (column, "EMPTY" if problem == empty else problem) for column, problem in TASK.faults(row, LABELS, OPTIONS)
    ]

    assert found == expected


def test_broken_tags_may_be_repaired() -> None:
    row = with_tags("New York", "O I-LOC")

    assert not list(TASK.faults(row, LABELS, OPTIONS.model_copy(update={"broken_tags": "repair"})))
    assert list(TASK.tally(row)) == ["LOC"]


def test_a_split_keeps_the_share_of_the_rarest_type_of_each_row() -> None:
    row = with_tags("a b c d", "B-LOC B-LOC B-PER O")

    assert [TASK.strata(one) for one in (row, with_tags("a", "O"))] == ["PER", ""]
    assert list(TASK.tally(row)) == ["LOC", "LOC", "PER"]


@pytest.mark.parametrize(
    ("there", "title"),
    [
        ({"tokens", "tags"}, "tokens and tags"),
        ({"id", "tokens", "ner_tags"}, "tokens and tags"),
        ({"text", "tokens", "labels"}, "tokens and tags"),
        ({"text", "entities"}, "texts and entities"),
        ({"text", "label"}, "texts and entities"),
    ],
)
def test_common_names_of_columns_are_known(there: set[str], title: str) -> None:
    fitting = [
        layout for layout in TASK.layouts if {column.name for column in layout.columns if not column.optional} <= there
    ]

    assert fitting[0].title == title


def test_a_prediction_needs_the_text_alone() -> None:
    assert [column.name for column in TASK.inputs(("text", "tokens", "tags"))] == ["text"]


@pytest.mark.parametrize(("name", "scheme", "types"), [("ner.jsonl", "BIO", 11), ("ner_zh.conll", "BMES", 10)])
def test_the_samples_are_without_faults(name: str, scheme: str, types: int) -> None:
    path = Path(samples.__file__).with_name(name)
    read, convert = (read_conll, from_tokens) if path.suffix == ".conll" else (read_jsonl, from_entities)
    items = list(read(path, name, "utf-8").items)
    rows = [convert(item.values) for item in items if isinstance(item, Record)]

    options = TASK.settle(rows, TokenClassification.Options())
    labels = TASK.labels(rows, options)

    assert (len(rows), options.scheme, len(labels)) == (600, scheme, 2 * types + 1)
    assert not [fault for row in rows for fault in TASK.faults(row, labels, options)]
