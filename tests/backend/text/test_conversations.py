from __future__ import annotations

from typing import Any

import pytest

from backend.interfaces import Unreadable
from backend.text.conversations import conversation, layouts

LAYOUTS = {layout.title: layout for layout in layouts()}


def turns(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in pairs]


HELLO = turns(("user", "Hello"), ("assistant", "Hi!"))


@pytest.mark.parametrize(
    ("title", "row", "expected"),
    [
        ("OpenAI messages", {"messages": [*HELLO, {"role": "user", "content": "Bye", "name": "Ann"}]}, [
            *HELLO, *turns(("user", "Bye"))
        ]),
        ("OpenAI messages", {"messages": turns(("system", "S"), ("user", [
            {"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}
        ]))}, turns(("system", "S"), ("user", "What is this?"))),
        ("ShareGPT conversations", {"conversations": [
            {"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi!"}
        ], "system": None}, HELLO),
        ("ShareGPT conversations", {"conversations": [
            {"from": "user", "value": "Hello"}, {"from": "assistant", "value": "Hi!"}
        ], "system": "Be kind."}, [*turns(("system", "Be kind.")), *HELLO]),
        ("Alpaca instructions", {"instruction": "Translate.", "input": "你好", "output": "Hello", "system": None},
         turns(("user", "Translate.\n\n你好"), ("assistant", "Hello"))),
        ("Alpaca instructions", {"instruction": "Hello", "input": "", "output": "Hi!", "system": ""}, HELLO),
        ("Alpaca instructions", {"instruction": "Hello"}, HELLO[:1]),
        ("prompt and response", {"prompt": "Hello", "response": "Hi!", "system": "Be kind."},
         [*turns(("system", "Be kind.")), *HELLO]),
        ("prompt and completion", {"prompt": "Hello", "completion": "Hi!"}, HELLO),
        ("question and answer", {"question": "Hello", "answer": "Hi!"}, HELLO),
    ],
)  # fmt: skip
def test_every_form_becomes_turns(title: str, row: dict[str, Any], expected: list[dict[str, str]]) -> None:
    assert LAYOUTS[title].convert(row) == {"messages": expected}


def test_answers_are_targets_so_that_rows_to_predict_go_without() -> None:
    targets = {title: [c.name for c in layout.columns if c.role == "target"] for title, layout in LAYOUTS.items()}

    assert targets == {
        "OpenAI messages": [],
        "ShareGPT conversations": [],
        "Alpaca instructions": ["output"],
        "prompt and response": ["response"],
        "prompt and completion": ["completion"],
        "question and answer": ["answer"],
    }


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, 'holds no turns; expected a list such as [{"role": "...", "content": "..."}, ...]'),
        ([], 'holds no turns; expected a list such as [{"role": "...", "content": "..."}, ...]'),
        (["Hello"], ('turn 1 has no "role" or no "content"; expected turns such as '
         '[{"role": "...", "content": "..."}, ...]')),
        (turns(("bot", "Hi")), 'turn 1 has the role "bot"; a role is one of system, user, assistant'),
        (turns(("user", " ")), "turn 1 (user) is empty; give it a text or remove the row"),
        (turns(("user", "Hello"), ("assistant", None)),
         "turn 2 (assistant) is empty; give it a text or remove the row"),
        (turns(("user", "a"), ("system", "b")),
         "turn 2 is of the system; only the first can be: move it there, or join it"),
        (turns(("user", "a"), ("user", "b")), "turns 1 and 2 are both of the user; join them to one"),
        (turns(("system", "s"), ("assistant", "b")),
         "turn 2 is of the assistant, but nobody has asked; begin with the user"),
        (turns(("user", [{"type": "image_url", "image_url": "x"}])),
         "turn 1 holds more than text; remove the row, or what is no text in it"),
        (turns(("user", 7)), "turn 1 holds more than text; remove the row, or what is no text in it"),
    ],
)  # fmt: skip
def test_turns_that_no_template_takes_are_refused(value: Any, problem: str) -> None:
    with pytest.raises(Unreadable) as caught:
        conversation(value)

    assert (caught.value.column, caught.value.problem) == ("messages", problem)


@pytest.mark.parametrize(
    ("title", "row", "column", "problem"),
    [
        ("ShareGPT conversations", {"conversations": [{"from": "tool", "value": "x"}]}, "conversations",
         ('turn 1 is from "tool"; a turn is from one of '
         "human, gpt, chatgpt, bard, model, system, user, assistant")),
        ("ShareGPT conversations", {"conversations": [{"from": "gpt", "value": "x"}]}, "conversations",
         "turn 1 is of the assistant, but nobody has asked; begin with the user"),
        ("Alpaca instructions", {"instruction": " ", "output": "x"}, "instruction",
         "is empty; give it a text or remove the row"),
        ("question and answer", {"question": "x", "answer": None}, "answer",
         "is empty; give it a text or remove the row"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_of_the_column_of_the_file(
    title: str, row: dict[str, Any], column: str, problem: str
) -> None:
    with pytest.raises(Unreadable) as caught:
        LAYOUTS[title].convert(row)

    assert (caught.value.column, caught.value.problem) == (column, problem)
