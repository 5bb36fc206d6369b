from __future__ import annotations

import pytest

from backend.text.tags import SCHEMES, Span, Tag, bio, breaks, detect, parse, spans

# Two places next to each other, a place of one word, a person of three.
ENTITIES = [Span(0, 2, "LOC"), Span(2, 3, "LOC"), Span(4, 7, "PER")]
SENTENCES = {
    "BIO": ["B-LOC", "I-LOC", "B-LOC", "O", "B-PER", "I-PER", "I-PER"],
    "IOB1": ["I-LOC", "I-LOC", "B-LOC", "O", "I-PER", "I-PER", "I-PER"],
    "BIOES": ["B-LOC", "E-LOC", "S-LOC", "O", "B-PER", "I-PER", "E-PER"],
    "BILOU": ["B-LOC", "L-LOC", "U-LOC", "O", "B-PER", "I-PER", "L-PER"],
    "BMES": ["B-LOC", "E-LOC", "S-LOC", "O", "B-PER", "M-PER", "E-PER"],
}


@pytest.mark.parametrize("scheme", SENTENCES)
def test_every_scheme_says_the_same_entities_and_is_detected(scheme: str) -> None:
    assert spans(SENTENCES[scheme]) == ENTITIES
    assert detect([SENTENCES[scheme]]) == scheme
    assert list(breaks(SENTENCES[scheme], scheme)) == []


@pytest.mark.parametrize("scheme", SENTENCES)
def test_the_tags_of_a_scheme_break_every_other(scheme: str) -> None:
    for other in SCHEMES:
        assert bool(list(breaks(SENTENCES[scheme], other))) == (other != scheme)


def test_types_alone_are_a_scheme_in_which_neighbours_of_a_type_are_one_entity() -> None:
    tags = ["LOC", "LOC", "O", "art-film"]

    assert detect([tags]) == "IO"
    assert spans(tags) == [Span(0, 2, "LOC"), Span(3, 4, "art-film")]


def test_a_few_broken_sentences_do_not_change_what_is_detected() -> None:
    assert detect([["B-LOC", "I-LOC"]] * 3 + [["I-LOC", "O"]]) == "BIO"
    assert detect([["I-LOC", "I-LOC"]] * 3 + [["B-LOC", "O"]]) == "IOB1"
    assert detect([["O"]]) == "BIO"


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("O", Tag("O", "")),
        ("B-geo-loc", Tag("B", "geo-loc")),
        ("M_PER", Tag("M", "PER")),
        ("B", Tag("B", "")),
        ("BOOK", Tag("", "BOOK")),
        ("组织", Tag("", "组织")),
    ],
)
def test_a_tag_is_a_letter_and_a_type(tag: str, expected: Tag) -> None:
    assert parse(tag) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["I-A", "I-A", "O"], [Span(0, 2, "A")]),
        (["B-A", "I-B"], [Span(0, 1, "A"), Span(1, 2, "B")]),
        (["E-A", "E-A"], [Span(0, 1, "A"), Span(1, 2, "A")]),
        (["S-A", "I-A"], [Span(0, 1, "A"), Span(1, 2, "A")]),
        (["B", "I", "O", "B"], [Span(0, 2, ""), Span(3, 4, "")]),
        ([], []),
    ],
)
def test_what_goes_on_without_a_beginning_begins_there(tags: list[str], expected: list[Span]) -> None:
    assert spans(tags) == expected


def test_entities_become_bio_tags() -> None:
    assert bio(ENTITIES, 8) == [*SENTENCES["BIO"], "O"]


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("BIO", ["O", "I-A"], (1, 'goes on with an entity that has not begun; BIO begins one with "B-A"')),
        (
            "BMES",
            ["M-A", "E-A"],
            (
                0,
                'goes on with an entity that has not begun; BMES begins one with "B-A" (or "S-A" if it is one token)',
            ),
        ),
        ("BIO", ["E-A"], (0, 'is no tag of the scheme BIO; expected "O", "B-A", "I-A"')),
        ("BIO", ["o"], (0, 'is no tag of the scheme BIO; expected "O", "B-o", "I-o"')),
        (
            "IOB1",
            ["B-A"],
            (0, 'begins an entity that stands next to no other of its type; IOB1 has "I-A" there'),
        ),
        (
            "BILOU",
            ["B-A", "O"],
            (
                0,
                'leaves an entity open; the last token of one has "U-A" for an entity of one token in the scheme BILOU',
            ),
        ),
        (
            "BIOES",
            ["B-A", "I-A"],
            (1, 'leaves an entity open; the last token of one has "E-A" in the scheme BIOES'),
        ),
        (
            "IO",
            ["B-A"],
            (0, 'has a letter before the type, but most tags have none; write "A", or letters everywhere'),
        ),
    ],
)
def test_a_broken_tag_says_what_was_expected(scheme: str, tags: list[str], expected: tuple[int, str]) -> None:
    assert list(breaks(tags, scheme)) == [expected]
