"""The widget for a field's type, and how the value that it holds becomes JSON."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from gradio.components import Component
from pydantic.fields import FieldInfo

from backend.errors import UserError
from webui.nodes import Node, plain_type

ACRONYMS = {"cpus": "CPUs", "gpus": "GPUs"}

Read = Callable[[str, Any], Any]  # (dotted key, what the widget holds) -> JSON


def humanize(name: str) -> str:
    """Return a field's name for people: learning_rate -> Learning rate."""
    text = " ".join(ACRONYMS.get(word, word) for word in name.replace("_", " ").replace(".", " / ").split())
    return text[:1].upper() + text[1:]


def make_widget(node: Node, value: Any, suggestions: Sequence[str] = ()) -> tuple[Component, Read]:
    """Return the widget for a field's type, and how to read it."""
    kind = plain_type(node.field.annotation)
    look: dict[str, Any] = {"label": humanize(node.key.rpartition(".")[2]), "info": node.field.description}
    if get_origin(kind) is Literal:
        return gr.Dropdown(list(get_args(kind)), value=value, **look), as_is
    if kind is bool:
        return gr.Checkbox(bool(value), **look), as_is
    if kind in (int, float):
        return gr.Number(value, step=_step(kind, value), **_bounds(node.field), **look), as_is
    if suggestions:
        return gr.Dropdown(list(suggestions), value=value, allow_custom_value=True, **look), _text
    return _make_textbox(node, kind, value, look)


def _make_textbox(node: Node, kind: Any, value: Any, look: dict[str, Any]) -> tuple[Component, Read]:
    """Return a line of text for a text, for pairs of texts and for lists."""
    if kind is str:
        return gr.Textbox(value or "", max_lines=1, **look), _text
    if get_origin(kind) is dict and get_args(kind) == (str, str):
        line = ", ".join(f"{name}={column}" for name, column in (value or {}).items())
        return gr.Textbox(line, max_lines=1, placeholder="name=column, ...", **look), mapping
    if get_origin(kind) is tuple and get_args(kind)[-1:] == (...,):
        line = ", ".join(str(part) for part in value or ())
        return gr.Textbox(line, max_lines=1, placeholder="one, two, ...", **look), lambda _key, answer: _parts(answer)
    raise TypeError(f"{node.key}: the form has no widget for {node.field.annotation}; give it one in webui/form.py")


def as_is(_key: str, answer: Any) -> Any:
    """Return what the widget holds."""
    return answer


def _text(_key: str, answer: str | None) -> str:
    return (answer or "").strip()


def _parts(answer: str | None) -> list[str]:
    return [part.strip() for part in next(csv.reader([answer or ""], skipinitialspace=True), []) if part.strip()]


def mapping(key: str, answer: str | None) -> dict[str, str]:
    """Read pairs such as text=review, label=stars. Raises UserError if one is not a pair."""
    pairs = [part.partition("=") for part in _parts(answer)]
    for name, sign, column in pairs:
        if not (name.strip() and sign and column.strip()):
            raise UserError(f'{key}: "{name}{sign}{column}" is not name=column; write for example text=review')
    return {name.strip(): column.strip() for name, _, column in pairs}


def _bounds(field: FieldInfo) -> dict[str, Any]:
    """Return what the browser's arrows may reach; the job itself is checked by its own rules."""
    bounds: dict[str, Any] = {}
    for rule in field.metadata:
        if getattr(rule, "ge", None) is not None:
            bounds["minimum"] = rule.ge
        if getattr(rule, "le", None) is not None:
            bounds["maximum"] = rule.le
    return bounds


def _step(kind: type, value: float | None) -> float:
    if kind is int:
        return 1
    return float(f"1e{math.floor(math.log10(value))}") if value else 0.01
