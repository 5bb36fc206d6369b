from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors

from backend.errors import UserError
from backend.interfaces import Context, Row, Unreadable
from backend.tasks.relation_extraction import RelationExtraction
from backend.tokenizer import Tokenizer

TASK = RelationExtraction()
LABELS = ("born_in", "no_relation", "works_for")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"@#*^.", "bill", "seattle", "person", "was", "born", "in", "京", "海"]
BILL = "<e1:PERSON>Bill</e1> was born in <e2>Seattle</e2>."


def new_tokenizer(pre_tokenizer: Any, words: list[str]) -> Tokenizer:
    fast = FastTokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    fast.normalizer = normalizers.BertNormalizer()
    fast.pre_tokenizer = pre_tokenizer
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return Tokenizer(fast, {"pad_token": "[PAD]"}, ("input_ids", "attention_mask"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return new_tokenizer(pre_tokenizers.BertPreTokenizer(), WORDS)


def context(tokenizer: Tokenizer, labels: tuple[str, ...] = LABELS, **options: object) -> Context:
    settled = TASK.Options.model_validate({"no_relation": "no_relation", **options})
    return Context(settled, labels, ("text", "relation"), tokenizer)


def rows(*relations: object) -> list[Row]:
    return [{"text": BILL, "relation": relation} for relation in relations]


def test_the_state_is_read_where_the_markers_begin(tokenizer: Tokenizer) -> None:
    ((features,),) = TASK.encode([{"text": BILL, "relation": "born_in"}], context(tokenizer))

    tokens = [tokenizer.token(number) for number in features["input_ids"]]
    assert " ".join(tokens) == "[CLS] @ * person * bill @ was born in # seattle # . [SEP]"
    assert features["markers"] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]
    assert features["attention_mask"] == [1] * 15
    assert features["labels"] == [0]


def test_the_tail_may_come_first(tokenizer: Tokenizer) -> None:
    ((features,),) = TASK.encode([{"text": "<e2>京</e2>😀<e1>海</e1>"}], context(tokenizer))

    assert [tokenizer.token(number) for number in features["input_ids"]][1:-1] == [*"#京#", "[UNK]", *"@海@"]
    assert features["markers"] == [0, 2, 0, 0, 0, 1, 0, 0, 0]
    assert "labels" not in features


def test_markers_are_found_where_a_piece_begins_with_the_space_before_it() -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁@", "▁#", "▁bill"]
    metaspace = new_tokenizer(pre_tokenizers.Metaspace(), words)

    ((features,),) = TASK.encode([{"text": "so <e1>bill</e1> and <e2>bill</e2>"}], context(metaspace))

    assert features["input_ids"] == [2, 1, 4, 6, 4, 1, 5, 6, 5, 3]
    assert features["markers"] == [0, 0, 1, 0, 0, 0, 2, 0, 0, 0]


@pytest.mark.parametrize("gap", [0, 3, 400])
@pytest.mark.parametrize("head_first", [True, False])
def test_a_long_text_is_cut_around_its_entities(tokenizer: Tokenizer, gap: int, *, head_first: bool) -> None:
    entities = ["<e1>bill</e1>", "<e2>seattle</e2>"]
    first, second = entities if head_first else entities[::-1]
    text = f"{'was ' * 300}{first} {'in ' * gap}{second} {'born ' * 300}"

    ((features,),) = TASK.encode([{"text": text}], context(tokenizer, max_length=20))

    tokens = [tokenizer.token(number) for number in features["input_ids"]]
    assert len(tokens) == len(features["markers"]) == 20
    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    for place, expected in ((1, "@ bill @"), (2, "# seattle #")):
        begin = features["markers"].index(place)
        assert " ".join(tokens[begin : begin + 3]) == expected
    assert tokens.count("was") >= 2
    assert tokens.count("born") >= 2
    assert tokens.count("in") == min(gap, 6)


def test_entities_that_the_model_cannot_read_are_refused(tokenizer: Tokenizer) -> None:
    row = {"text": f"<e1>{'bill ' * 20}</e1> in <e2>seattle</e2>"}

    with pytest.raises(UserError, match=r"task.max_length is 16, .* take 27 tokens with what marks them; raise"):
        TASK.encode([row], context(tokenizer, max_length=16))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": BILL, "relation": "born_in"}, []),
        ({"text": " ", "relation": "born_in"}, [("text", "is empty; give it a text or remove the row")]),
        (
            {"text": BILL, "relation": "born in"},
            [("relation", '"born in" is not one of born_in, no_relation, works_for; did you mean "born_in"?')],
        ),
        (
            {"text": BILL, "relation": None},
            [("relation", "is empty; give it one of born_in, no_relation, works_for, or remove the row")],
        ),
        (
            {"text": "<e1>a</e1> b", "relation": "born_in"},
            [
                (
                    "text",
                    "has no <e2>; mark the tail once, as in <e1>Marie Curie</e1> was born in <e2>Warsaw</e2>",
                )
            ],
        ),
    ],
)
def test_faults_of_a_row(row: Row, expected: list[tuple[str, str]]) -> None:
    assert list(TASK.faults(row, LABELS, TASK.Options())) == expected


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        (
            "text, head, tail, relation",
            {"text": "a b", "head": [0, 1], "tail": [2, 3, "X"], "relation": "r"},
        ),
        ("text, subject, object, label", {"text": "a b", "subject": [0, 1], "object": [2, 3, "X"], "label": "r"}),
        ("text, h, t, relation", {"text": "a b", "h": {"pos": [0, 1]}, "t": [2, 3, "X"], "relation": "r"}),
        ("marked text, relation", {"text": "<e1>a</e1> <e2:X>b</e2>", "relation": "r"}),
        ("marked text, label", {"text": "<e1>a</e1> <e2:X>b</e2>", "label": "r"}),
    ],
)
def test_every_layout_gives_the_same_row(columns: str, values: Row) -> None:
    layout = next(layout for layout in TASK.layouts if {c.name for c in layout.columns} <= values.keys())

    assert layout.title == columns
    assert layout.convert(values) == {"text": "<e1>a</e1> <e2:X>b</e2>", "relation": "r"}


def test_a_layout_names_the_column_of_a_span_that_is_wrong() -> None:
    layout = next(layout for layout in TASK.layouts if layout.title == "text, subject, object, label")

    with pytest.raises(Unreadable) as caught:
        layout.convert({"text": "a b", "subject": [0, 1], "object": [2, 9], "label": "r"})

    assert (caught.value.column, caught.value.problem) == (
        "object",
        "reaches from 2 to 9, but the text has 3 characters",
    )


def test_the_class_for_no_relation_is_settled_by_the_rows() -> None:
    found = TASK.settle(rows("born_in", "NA", None), TASK.Options())

    assert found.no_relation == "NA"
    assert TASK.labels(rows("born_in", "NA", "born_in"), found) == ("NA", "born_in")


def test_a_class_for_no_relation_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r'task.no_relation: "norel" is not one of born_in, no_rel; did you mean'):
        TASK.settle(rows("born_in", "no_rel"), TASK.Options(no_relation="norel"))


def test_one_relation_is_not_enough() -> None:
    with pytest.raises(UserError, match="column \"relation\" has only 'born_in': at least two are needed"):
        TASK.labels(rows("born_in", ""), TASK.Options())


def test_an_answer_has_offsets_into_the_text_without_marks(tokenizer: Tokenizer) -> None:
    row = {"text": "😀 In <e2:LOC>Warsaw</e2>: <e1>Curie</e1>."}
    outputs = {"logits": np.log([0.7, 0.2, 0.1])}
    part = TASK.read({}, outputs, context(tokenizer))

    answer = TASK.decode([part], row, context(tokenizer))

    scores = answer.pop("scores")
    assert scores == pytest.approx({"born_in": 0.7, "no_relation": 0.2, "works_for": 0.1})
    assert answer == {
        "label": "born_in",
        "head": {"start": 13, "end": 18, "text": "Curie", "type": ""},
        "tail": {"start": 5, "end": 11, "text": "Warsaw", "type": "LOC"},
        "text": "😀 In Warsaw: Curie.",
    }


def test_permuted_classes_give_the_same_answer(tokenizer: Tokenizer) -> None:
    row = {"text": BILL}
    logits = {"born_in": 0.5, "no_relation": -1.0, "works_for": 2.0}

    answers = [
        TASK.decode([[logits[label] for label in labels]], row, context(tokenizer, labels))
        for labels in (LABELS, LABELS[::-1])
    ]

    assert answers[0]["label"] == answers[1]["label"] == "works_for"
    assert answers[0]["scores"] == pytest.approx(answers[1]["scores"])


def test_f1_is_that_of_the_relations_without_no_relation(tokenizer: Tokenizer) -> None:
    truth = ["born_in", "born_in", "works_for", "no_relation", "no_relation"]
    said = ["born_in", "no_relation", "born_in", "works_for", "no_relation"]

    report = TASK.score([{"label": label} for label in said], rows(*truth), context(tokenizer))

    # Of 3 relations that are said one is right, of 3 that are true one is found.
    assert report.metrics["accuracy"] == pytest.approx(2 / 5)
    for name in ("precision_micro", "recall_micro", "f1_micro"):
        assert report.metrics[name] == pytest.approx(1 / 3)
    assert report.metrics["f1_macro"] == pytest.approx((0.5 + 0) / 2)
    classes, confusion = report.tables
    assert classes.rows[0] == ("born_in", 0.5, 0.5, 0.5, 2)
    assert confusion.rows == (("born_in", 1, 1, 0), ("no_relation", 0, 1, 1), ("works_for", 1, 0, 0))


def test_without_a_class_for_no_relation_every_class_counts(tokenizer: Tokenizer) -> None:
    found = TASK.score(
        [{"label": "born_in"}, {"label": "no_relation"}],
        rows("born_in", "no_relation"),
        context(tokenizer, no_relation=""),
    )

    assert found.metrics["f1_micro"] == 1.0
