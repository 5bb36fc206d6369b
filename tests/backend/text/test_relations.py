from __future__ import annotations

import pytest

from backend.interfaces import Unreadable
from backend.text.relations import Entity, Marked, as_json, from_spans, mark, parse, punctuated, usual_no_relation

CURIE = Marked("Marie Curie was born in Warsaw.", Entity(0, 11, "PER"), Entity(24, 30, "LOC"))


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("<e1:PER>Marie Curie</e1> was born in <e2:LOC>Warsaw</e2>.", CURIE),
        (
            "In <e2>Warsaw</e2> lived <e1>Marie Curie</e1>",
            Marked("In Warsaw lived Marie Curie", Entity(16, 27), Entity(3, 9)),
        ),
        ("北京<e1:人物>张三</e1>生于<e2>上海</e2>", Marked("北京张三生于上海", Entity(2, 4, "人物"), Entity(6, 8))),
        ("😀<e1>a</e1>é<e2>b</e2>", Marked("😀aéb", Entity(1, 2), Entity(3, 4))),
        ("<e1> a </e1><e2>b\n</e2>", Marked(" a b\n", Entity(1, 2), Entity(3, 4))),
        ("1 < 2 <e1>a</e1> <b> <e2>b</e2>", Marked("1 < 2 a <b> b", Entity(6, 7), Entity(12, 13))),
    ],
)
def test_marks_become_offsets_into_the_text_without_marks(marked: str, expected: Marked) -> None:
    assert parse(marked) == expected


@pytest.mark.parametrize(
    ("marked", "problem"),
    [
        ("a <e2>b</e2>", "has no <e1>; mark the head once, as in "),
        ("<e1>a</e1> <e2>b", "has no </e2>; mark the tail once, as in "),
        ("<e1>a</e1> <e1>c</e1> <e2>b</e2>", "has 2 times <e1>; mark the head once, as in "),
        ("</e1>a<e1> <e2>b</e2>", "has </e1> before <e1>; mark the head as in "),
        ("<e1> </e1> <e2>b</e2>", "has nothing between <e1> and </e1>; put them around the head"),
        ("<e1>a <e2>b</e2></e1>", '"b" overlaps the head "a b"; mark two entities that share no character'),
        ("<e1>a <e2>b</e1> c</e2>", '"b c" overlaps the head "a b"; mark two entities that share no character'),
    ],
)
def test_marks_that_cannot_be_read_are_told(marked: str, problem: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parse(marked)

    assert caught.value.column == "text"
    assert caught.value.problem.removesuffix("<e1>Marie Curie</e1> was born in <e2>Warsaw</e2>") == problem


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        ({"start": 0, "end": 11, "type": "PER"}, {"start": 24, "end": 30, "label": "LOC"}),
        ([0, 11, "PER"], [24, 30, "LOC"]),
        ({"pos": [0, 12], "name": "marie curie", "type": "PER"}, {"pos": [23, 30], "text": "Warsaw", "type": "LOC"}),
    ],
)
def test_spans_become_marks(head: object, tail: object) -> None:
    row = {"text": CURIE.text, "h": head, "t": tail}

    assert from_spans(row, "h", "t") == "<e1:PER>Marie Curie</e1> was born in <e2:LOC>Warsaw</e2>."


@pytest.mark.parametrize(
    ("head", "tail", "column", "problem"),
    [
        ("Marie", [24, 30], "head", "does not say where it is; give it as "),
        ({"start": 0}, [24, 30], "head", "does not say where it is; give it as "),
        ([True, 3], [24, 30], "head", "does not say where it is; give it as "),
        ([0, 11], [24, 40], "tail", "reaches from 24 to 40, but the text has 31 characters"),
        ([5, 2], [24, 30], "head", "reaches from 5 to 2, but the text has 31 characters"),
        ([11, 12], [24, 30], "head", "is empty: it reaches from 11 to 12, and the end is not part of it"),
        ([0, 11], [0, 11], "tail", '"Marie Curie" overlaps the head "Marie Curie"; mark two entities that share no '),
        (
            {"start": 1, "end": 12, "text": "Marie Curie"},
            [24, 30],
            "head",
            'the text has "arie Curie " from 1 to 12, not "Marie Curie"; that begins at 0',
        ),
        ({"start": 0, "end": 2, "name": "Eve"}, [24, 30], "head", 'the text has "Ma" from 0 to 2, not "Eve"'),
    ],
)
def test_spans_that_cannot_be_are_told(head: object, tail: object, column: str, problem: str) -> None:
    with pytest.raises(Unreadable) as caught:
        from_spans({"text": CURIE.text, "head": head, "tail": tail}, "head", "tail")

    assert (caught.value.column, caught.value.problem[: len(problem)]) == (column, problem)


def test_a_text_that_holds_a_mark_of_its_own_is_refused() -> None:
    with pytest.raises(Unreadable, match="would be read as the mark of an entity"):
        mark("a </e1> b", Entity(0, 1), Entity(8, 9))
    with pytest.raises(Unreadable, match='name it without "<" and ">"'):
        mark("a b", Entity(0, 1, "<x>"), Entity(2, 3))


def test_marks_are_written_in_either_order() -> None:
    assert mark("a b", Entity(2, 3, "X"), Entity(0, 1)) == "<e2>a</e2> <e1:X>b</e1>"


@pytest.mark.parametrize(
    ("marked", "text"),
    [
        (
            "<e1:PERSON>Bill</e1> was born in <e2:BIRTH_PLACE>Seattle</e2>.",
            "@ * person * Bill @ was born in # ^ birth place ^ Seattle # .",
        ),
        ("<e1>Bill</e1> was born in <e2>Seattle</e2>", "@ Bill @ was born in # Seattle #"),
        ("In <e2>Seattle</e2>, <e1>Bill</e1>", "In # Seattle # , @ Bill @"),
        ("北京<e1:人物>张三</e1>生于<e2>上海</e2>。", "北京 @ * 人物 * 张三 @ 生于 # 上海 # 。"),
        ("<e1>a</e1><e2>b</e2>", "@ a @ # b #"),
    ],
)
def test_entities_stand_between_punctuation(marked: str, text: str) -> None:
    found = punctuated(parse(marked))

    assert found.text == text
    assert [found.text[place[0]] + found.text[place[1] - 1] for place in (found.head, found.tail)] == ["@@", "##"]


def test_an_entity_is_shown_with_its_text_and_place() -> None:
    assert as_json(CURIE, CURIE.tail) == {"start": 24, "end": 30, "text": "Warsaw", "type": "LOC"}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("born_in", "no_relation"), "no_relation"),
        (("Other", "NA", "born in"), "NA"),
        (("Cause-Effect(e1,e2)", "Other"), "Other"),
        (("出生地", "无"), "无"),
        (("N/A", "works for"), "N/A"),
        (("born_in", "works_for"), ""),
    ],
)
def test_the_class_for_no_relation_is_found_by_its_usual_names(labels: tuple[str, ...], expected: str) -> None:
    assert usual_no_relation(labels) == expected
