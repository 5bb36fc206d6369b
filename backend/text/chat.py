"""Conversations to text as the model's chat template writes them, and which part of the text the assistant says.

A chat template is a program that comes with a model: jinja2 runs it in a sandbox, with what transformers gives it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from backend.errors import UserError
from backend.text.conversations import ASSISTANT, USER, Message
from backend.tokenizer import Tokenizer

# For models that come without one: what most base models have read on the web, and an end that all can write.
DEFAULT_TEMPLATE = """{{ begin }}{% for message in messages -%}
{% if message.role == 'system' %}{{ message.content }}

{% elif message.role == 'user' %}User: {{ message.content }}
{% else %}Assistant: {{ message.content }}{{ end }}
{% endif %}{% endfor -%}
{% if add_generation_prompt %}Assistant:{% endif %}"""
PROBE = "tunewright"  # an answer that stands for all others


class Rendered(NamedTuple):
    """A conversation as text, and the character spans of what the assistant says, its end-of-turn token included."""

    text: str
    replies: tuple[tuple[int, int], ...]


@lru_cache(maxsize=4)
def chat_of(tokenizer: Tokenizer) -> Chat:
    """Return the chat of a tokenizer, made once: it has to try the template."""
    return Chat(tokenizer)


class Chat:
    """The chat template of a model.

    `stop_ids` are the tokens that end an answer: that of the template, and those of the tokenizer. `appended` is what
    ends a conversation where the template writes no such token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._variables = {f"{name}_token": token for name, token in tokenizer.special.items()}
        own = _own_template(tokenizer)
        if own is None:
            self._variables.update(begin=_begin(tokenizer), end=_end(tokenizer))
        self._template = _compiled(own or DEFAULT_TEMPLATE)
        self._closing = self._find_closing()
        end = self._special(self._closing)
        self.stop_ids = tuple(dict.fromkeys((*end, *tokenizer.stop_ids)))
        self.appended = () if end else tokenizer.stop_ids[:1]

    def render(self, messages: Sequence[Message], *, ask: bool = False) -> str:
        """Return turns as text; `ask` adds what an answer begins with. Raises UserError if the template refuses."""
        try:
            return self._template.render(
                messages=list(messages), tools=None, documents=None, add_generation_prompt=ask, **self._variables
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                f"the chat template of the model does not take a conversation of {roles}: {error}; "
                "change such rows, or take another model"
            ) from error

    def with_replies(self, messages: Sequence[Message]) -> Rendered:
        """Return a conversation as text with the spans of its assistant turns."""
        text = self.render(messages)
        replies, done = [], 0
        for place, message in enumerate(messages):
            if message["role"] == ASSISTANT:
                start = self._start(text, messages[:place])
                done = self._end(text, messages[: place + 1], max(start, done))
                replies.append((start, done))
        return Rendered(text, tuple(replies))

    def _start(self, text: str, before: Sequence[Message]) -> int:
        """Return where a reply begins: where the text leaves what comes before it, and what an answer begins with."""
        asked = self.render(before, ask=True)
        question = before[-1]["content"].strip()
        start = _common(text, asked)
        if start < asked.rfind(question) + len(question) or question not in asked:
            raise UserError(
                "the chat template of the model rewrites earlier turns when later ones follow, so that it cannot be "
                "told which tokens are the assistant's; take another model, or rows with a single answer"
            )
        return start

    def _end(self, text: str, until: Sequence[Message], start: int) -> int:
        """Return where a reply ends, the white space after its end-of-turn token left out."""
        content = until[-1]["content"].strip()
        found = text.find(content, start)
        if found < 0:
            raise UserError(
                f'the chat template of the model leaves out or changes what an assistant says ("{content[:60]}"); '
                "take another model"
            )
        after = text.find(self._closing, found + len(content)) if self._closing else -1
        return found + len(content) if after < 0 else after + len(self._closing)

    def _find_closing(self) -> str:
        """Return what the template writes after an answer, up to its end-of-turn token."""
        text = self.render([{"role": USER, "content": "?"}, {"role": ASSISTANT, "content": PROBE}])
        closing = text[text.rindex(PROBE) + len(PROBE) :]
        special = self._special(closing)
        if special:  # some templates write one more at the end of a conversation
            token = self._tokenizer.token(special[0])
            return closing[: closing.index(token) + len(token)]
        return closing.rstrip() if closing.strip() else closing

    def _special(self, text: str) -> tuple[int, ...]:
        """Return the first token of a text that is no white space, if it is a special one or a line by itself."""
        (encoding,) = self._tokenizer.whole([text], special_tokens=False)
        for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if text[start:end].strip():
                alone = text.strip().partition("\n")[0].strip() == self._tokenizer.token(number)
                return (number,) if alone or not self._tokenizer.text([number]) else ()
        return ()


class _Generation(Extension):
    """The `generation` block, with which some templates mark what the assistant says: written as it is."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Return what the block holds."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _json(value: Any, **settings: Any) -> str:
    """Return JSON as it is; the filter of jinja2 writes it for HTML."""
    return json.dumps(value, **{"ensure_ascii": False, **settings})


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _json
    environment.globals.update(raise_exception=_refuse, strftime_now=_now)
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise UserError(f"the chat template of the model cannot be read: {error}; take another model") from error


def _common(one: str, other: str) -> int:
    """Return how many characters two texts have in common from their start."""
    if one.startswith(other):
        return len(other)
    return next(place for place in range(len(other)) if one[place : place + 1] != other[place])


def _own_template(tokenizer: Tokenizer) -> str | None:
    """Return the model's own template; older models have several, by name."""
    found: Any = tokenizer.chat_template
    if isinstance(found, list):
        return {entry["name"]: entry["template"] for entry in found}.get("default")
    return found or None


def _begin(tokenizer: Tokenizer) -> str:
    """Return the token that the tokenizer itself puts before a text."""
    bos = tokenizer.id("bos")
    (encoding,) = tokenizer.whole(["a"])
    return tokenizer.special["bos"] if bos is not None and encoding.ids[:1] == [bos] else ""


def _end(tokenizer: Tokenizer) -> str:
    for role in ("eos", "sep"):
        if tokenizer.id(role) is not None:
            return tokenizer.special[role]
    raise UserError("the model has neither a chat template nor an end-of-text token; take another model")
