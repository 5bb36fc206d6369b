"""The one map from a field of an Options class to a widget of the page."""

from __future__ import annotations

import csv
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from gradio.components import Component
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from backend.errors import UserError

SETTINGS = ".*"  # after the key of a union: the settings of its variants
MOST_BUTTONS = 4  # of a choice; more become a list
Read = Callable[[str, Any], Any]  # (dotted key, what the widget holds) -> JSON


@dataclass(frozen=True)
class Node:
    """One thing to fill in: a plain field, the choice between the variants of a union, or the settings of these."""

    key: str  # dotted; of the settings of the variants: the key of the union and ".*"
    field: FieldInfo
    default: Any
    variants: tuple[type[BaseModel], ...] = ()


@dataclass(frozen=True)
class Entry:
    """A widget that was drawn: its key, how its value becomes JSON, and the choice on which it depends."""

    key: str
    widget: Component
    read: Read
    depends: tuple[str, str] | None = None  # (key of the selector, name of the variant)
    chooses: bool = False  # between the variants of a union


class Form:
    """The widgets of an Options class, drawn where the page wants them, and the way back to JSON.

    `values` are first values by dotted key, `suggestions` turn a text field into a list that can be typed into, and
    `titles` are the names for people of the variants of a union.
    """

    def __init__(
        self,
        model: type[BaseModel],
        values: Mapping[str, Any] | None = None,
        suggestions: Mapping[str, Sequence[str]] | None = None,
        titles: Mapping[str, str] | None = None,
    ) -> None:
        self._values = dict(values or {})
        self._suggestions = dict(suggestions or {})
        self._titles = dict(titles or {})
        self.nodes = {node.key: node for node in _nodes(model)}
        self.entries: list[Entry] = []
        self._drawn: set[str] = set()
        for key in [*self._values, *self._suggestions]:
            if key not in self.nodes:
                raise KeyError(f"{model.__name__} has no field {key}")

    @property
    def inputs(self) -> list[Component]:
        """The widgets, in the order in which `collect` takes their values."""
        return [entry.widget for entry in self.entries]

    def widget(self, key: str) -> Component:
        """Return the widget of a field that was drawn."""
        return next(entry.widget for entry in self.entries if entry.key == key)

    def draw(self, *keys: str) -> None:
        """Draw these fields, each at most once in the life of a form."""
        chosen = [self.nodes[key] for key in keys]
        self._drawn.update(keys)
        with gr.Row(elem_classes="fields"):
            for node in chosen:
                if not node.variants:
                    self._draw_field(node)
                elif not node.key.endswith(SETTINGS):
                    self._draw_choice(node)
        for node in chosen:
            if node.key.endswith(SETTINGS):
                self._draw_settings(node)

    def draw_rest(self) -> None:
        """Draw all that was not drawn yet, under the name of the part to which it belongs."""
        sections: dict[str, list[str]] = {}
        for key in self.nodes:
            if key not in self._drawn:
                sections.setdefault(key.rpartition(".")[0], []).append(key)
        for section, keys in sections.items():
            gr.Markdown(f"### {humanize(section or 'general')}", elem_classes="section")
            self.draw(*keys)

    def collect(self, *answers: Any) -> dict[str, Any]:
        """Return the JSON of the form. Raises UserError if a value cannot be read."""
        held = {entry.key: answer for entry, answer in zip(self.entries, answers, strict=True)}
        raw: dict[str, Any] = {}
        for entry, answer in zip(self.entries, answers, strict=True):
            if entry.depends and held[entry.depends[0]] != entry.depends[1]:
                continue
            *parents, name = _json_path(entry)
            place = raw
            for parent in parents:
                place = place.setdefault(parent, {})
            place[name] = entry.read(entry.key, answer)
        return raw

    def _draw_field(self, node: Node, depends: tuple[str, str] | None = None) -> None:
        value = self._values.get(node.key, node.default)
        widget, read = make_widget(node, value, self._suggestions.get(node.key, ()))
        self.entries.append(Entry(node.key, widget, read, depends))

    def _draw_choice(self, node: Node) -> None:
        names = [variant_name(variant) for variant in node.variants]
        make = gr.Radio if len(names) <= MOST_BUTTONS else gr.Dropdown
        selector = make(
            [(self._titles.get(name, name), name) for name in names],
            value=self._values.get(node.key, node.default.name),
            label=humanize(node.key.rpartition(".")[2]),
            info=node.field.description,
        )
        self.entries.append(Entry(node.key, selector, _as_is, chooses=True))

    def _draw_settings(self, node: Node) -> None:
        """Draw a group of fields for each variant; it shows while the variant is chosen."""
        key = node.key.removesuffix(SETTINGS)
        selector = self.widget(key)
        groups = []
        for variant in node.variants:
            name = variant_name(variant)
            inner = list(_nodes(variant, f"{key}.{name}.", node.default if isinstance(node.default, variant) else None))
            if not inner:
                continue
            with gr.Row(visible=name == selector.value, elem_classes="fields") as group:
                for field in inner:
                    self._draw_field(field, depends=(key, name))
            groups.append((group, name))
        if groups:
            selector.change(  # type: ignore[attr-defined]
                lambda chosen: several([gr.Row(visible=name == chosen) for _, name in groups]),
                selector,
                [group for group, _ in groups],
                queue=False,
                show_progress="hidden",
                api_visibility="private",
            )


def humanize(name: str) -> str:
    """Return a field's name for people: learning_rate -> Learning rate."""
    text = name.replace("_", " ").replace(".", " / ")
    return text[:1].upper() + text[1:]


def several(updates: list[Any]) -> Any:
    """Return updates as an event wants them: those of several components in a list, that of one alone."""
    return updates[0] if len(updates) == 1 else updates


def make_widget(node: Node, value: Any, suggestions: Sequence[str] = ()) -> tuple[Component, Read]:
    """Return the widget for a field's type, and how to read it."""
    kind = _plain(node.field.annotation)
    look: dict[str, Any] = {"label": humanize(node.key.rpartition(".")[2]), "info": node.field.description}
    if get_origin(kind) is Literal:
        return gr.Dropdown(list(get_args(kind)), value=value, **look), _as_is
    if kind is bool:
        return gr.Checkbox(bool(value), **look), _as_is
    if kind in (int, float):
        return gr.Number(value, step=_step(kind, value), **_bounds(node.field), **look), _as_is
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


def _nodes(model: type[BaseModel], prefix: str = "", default: BaseModel | None = None) -> Iterator[Node]:
    """Yield what there is to fill in below a model; a Literal with one value leaves nothing to choose."""
    for name, field in model.model_fields.items():
        kind = _plain(field.annotation)
        value = getattr(default, name) if default is not None else _default(field)
        variants = _variants(kind)
        if variants:
            yield Node(prefix + name, field, value, variants)
            if any(True for variant in variants for _ in _nodes(variant)):
                yield Node(prefix + name + SETTINGS, field, value, variants)
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _nodes(kind, f"{prefix}{name}.", value)
        elif get_origin(kind) is not Literal or len(get_args(kind)) > 1:
            yield Node(prefix + name, field, value)


def _variants(kind: Any) -> tuple[type[BaseModel], ...]:
    """Return the classes that a field chooses between by name; one class with a fixed name counts too."""
    classes = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    named = all(isinstance(one, type) and issubclass(one, BaseModel) and variant_name(one) for one in classes)
    return tuple(classes) if named else ()


def variant_name(model: type[BaseModel]) -> str:
    """Return the fixed name of a variant of a union, or nothing for a class that is none."""
    names = get_args(model.model_fields["name"].annotation) if "name" in model.model_fields else ()
    return str(names[0]) if len(names) == 1 else ""


def _json_path(entry: Entry) -> list[str]:
    """Return the keys of a widget's value in the JSON: a union's choice is its `name`, a variant has no level."""
    if entry.depends is None:
        return [*entry.key.split("."), *(["name"] if entry.chooses else [])]
    selector, variant = entry.depends
    return [*selector.split("."), *entry.key.removeprefix(f"{selector}.{variant}.").split(".")]


def _plain(annotation: Any) -> Any:
    """Return X for `X | None`, and anything else as it is."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def _default(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _as_is(_key: str, answer: Any) -> Any:
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
