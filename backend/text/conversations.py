"""Conversations as people keep them, in a handful of forms, to one: a list of turns with a role and a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.interfaces import Column, Layout, Row, Unreadable

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, USER, ASSISTANT)
SHAREGPT_ROLES = {"human": USER, "gpt": ASSISTANT, "chatgpt": ASSISTANT, "bard": ASSISTANT, "model": ASSISTANT}

Message = dict[str, str]  # "role" and "content"

MESSAGES = Column(
    name="messages",
    kind="json",
    description='The turns: [{"role": "system", "user" or "assistant", "content": "..."}, ...].',
)
CONVERSATIONS = Column(
    name="conversations", kind="json", description='The turns: [{"from": "human" or "gpt", "value": "..."}, ...].'
)
SYSTEM_PROMPT = Column(name="system", optional=True, description="What the assistant is told beforehand.")
EMPTY = "is empty; give it a text or remove the row"


def conversation(value: Any, column: str = MESSAGES.name) -> list[Message]:
    """Return turns as OpenAI's API has them with a role and a text each. Raises Unreadable if they are none."""
    return _checked([_message(turn, place, column) for place, turn in _turns(value, column, "role", "content")], column)


def layouts() -> tuple[Layout, ...]:
    """Return the forms of conversations that are understood."""
    return (
        Layout("OpenAI messages", (MESSAGES,), lambda row: {MESSAGES.name: conversation(row[MESSAGES.name])}),
        Layout("ShareGPT conversations", (CONVERSATIONS, SYSTEM_PROMPT), _from_sharegpt),
        _pair("Alpaca instructions", "instruction", "output", "input"),
        _pair("prompt and response", "prompt", "response"),
        _pair("prompt and completion", "prompt", "completion"),
        _pair("question and answer", "question", "answer"),
    )


def _from_sharegpt(row: Row) -> Row:
    column = CONVERSATIONS.name
    messages = []
    for place, turn in _turns(row[column], column, "from", "value"):
        role = SHAREGPT_ROLES.get(turn["from"], turn["from"])
        if role not in ROLES:
            known = ", ".join((*SHAREGPT_ROLES, *ROLES))
            raise Unreadable(column, f'turn {place} is from "{role}"; a turn is from one of {known}')
        messages.append({"role": role, "content": _text(turn["value"], place, column)})
    return {MESSAGES.name: _checked([*_system(row), *messages], column)}


def _pair(title: str, question: str, answer: str, more: str = "") -> Layout:
    """Return the layout of files with one question and one answer in a row."""
    columns = [
        Column(name=question, description="What the user says."),
        Column(name=answer, role="target", description="What the assistant answers."),
        SYSTEM_PROMPT,
    ]
    if more:
        columns.insert(1, Column(name=more, optional=True, description="What the user's words are about."))

    def convert(row: Row) -> Row:
        content = "\n\n".join(text for text in (_cell(row, question), _cell(row, more)) if text.strip())
        messages = [*_system(row), {"role": USER, "content": content}]
        if answer in row:  # rows to predict go without
            messages.append({"role": ASSISTANT, "content": _cell(row, answer)})
        for column in (question, answer):
            if column in row and not _cell(row, column).strip():
                raise Unreadable(column, EMPTY)
        return {MESSAGES.name: messages}

    return Layout(title, tuple(columns), convert)


def _cell(row: Row, column: str) -> str:
    return str(row.get(column) or "")


def _system(row: Row) -> list[Message]:
    text = _cell(row, SYSTEM_PROMPT.name)
    return [{"role": SYSTEM, "content": text}] if text.strip() else []


def _turns(value: Any, column: str, role: str, text: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Return (number from 1, turn) for each turn of a list in which each has a role and a text."""
    example = f'[{{"{role}": "...", "{text}": "..."}}, ...]'
    if not isinstance(value, list) or not value:
        raise Unreadable(column, f"holds no turns; expected a list such as {example}")
    for place, turn in enumerate(value, start=1):
        if not isinstance(turn, Mapping) or role not in turn or text not in turn:
            raise Unreadable(column, f'turn {place} has no "{role}" or no "{text}"; expected turns such as {example}')
    return list(enumerate(value, start=1))


def _message(turn: Mapping[str, Any], place: int, column: str) -> Message:
    if turn["role"] not in ROLES:
        raise Unreadable(column, f'turn {place} has the role "{turn["role"]}"; a role is one of {", ".join(ROLES)}')
    return {"role": turn["role"], "content": _text(turn["content"], place, column)}


def _text(content: Any, place: int, column: str) -> str:
    """Return the text of a turn, which OpenAI's API also takes in parts."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts if part is not None]
    known = [text for text in texts if isinstance(text, str)]
    if len(known) < len(texts):
        raise Unreadable(column, f"turn {place} holds more than text; remove the row, or what is no text in it")
    return "".join(known)


def _checked(messages: Sequence[Message], column: str) -> list[Message]:
    """Return turns in the order that chat templates take: a system turn or none, then user and assistant in turn."""
    for place, message in enumerate(messages, start=1):
        role, before = message["role"], messages[place - 2]["role"] if place > 1 else ""
        if not message["content"].strip():
            raise Unreadable(column, f"turn {place} ({role}) {EMPTY}")
        if role == SYSTEM and place > 1:
            raise Unreadable(column, f"turn {place} is of the system; only the first can be: move it there, or join it")
        if role == before:
            raise Unreadable(column, f"turns {place - 1} and {place} are both of the {role}; join them to one")
        if role == ASSISTANT and before != USER:
            raise Unreadable(column, f"turn {place} is of the assistant, but nobody has asked; begin with the user")
    return list(messages)
