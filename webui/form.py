"""The one map from a field of an Options class to a widget of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from pydantic import BaseModel

from webui.nodes import SETTINGS, Node, nodes, variant_name
from webui.widgets import Read, as_is, humanize, make_widget

MOST_BUTTONS = 4  # of a choice; more become a list


@dataclass(frozen=True)
class Entry:
    """A widget that was drawn: its key, how its value becomes JSON, and the choice on which it depends."""

    key: str
    widget: Component
    read: Read
    depends: tuple[str, Any] | None = None  # (key of the selector or of the switch, name of the variant or True)
    chooses: bool = False  # between the variants of a union


class Form:
    """The widgets of an Options class, drawn where the page wants them, and the way back to JSON.

    `values` are first values by dotted key, `suggestions` turn a text field into a list that can be typed into,
    `titles` are the names for people of the variants of a union, and `notes` what is said of them.
    """

    def __init__(
        self,
        model: type[BaseModel],
        values: Mapping[str, Any] | None = None,
        suggestions: Mapping[str, Sequence[str]] | None = None,
        titles: Mapping[str, str] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self._values = dict(values or {})
        self._suggestions = dict(suggestions or {})
        self._titles = dict(titles or {})
        self._notes = dict(notes or {})
        self.nodes = {node.key: node for node in nodes(model)}
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
                elif not node.key.endswith(SETTINGS) and not node.switch:
                    self._draw_choice(node)
        for node in chosen:
            if node.switch:
                self._draw_switch(node)
            elif node.key.endswith(SETTINGS):
                self._draw_settings(node)

    def draw_below(self, prefix: str) -> None:
        """Draw the fields whose keys begin so, all in one place."""
        self.draw(*(key for key in self.nodes if key.startswith(prefix)))

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
        self.entries.append(Entry(node.key, selector, as_is, chooses=True))

    def _draw_switch(self, node: Node) -> None:
        """Draw a switch, and a group of fields that shows while it is on."""
        title = node.field.title or humanize(node.key.rpartition(".")[2])
        on = node.default is not None
        switch = gr.Checkbox(on, label=title, info=node.field.description, elem_classes="switch")
        self.entries.append(Entry(node.key, switch, lambda _key, answer: {} if answer else None))
        self._draw_groups(node, node.key, {True: node.variants[0]})

    def _draw_settings(self, node: Node) -> None:
        """Draw a group of fields for each variant; it shows while the variant is chosen."""
        self._draw_groups(node, node.key.removesuffix(SETTINGS), {variant_name(one): one for one in node.variants})

    def _draw_groups(self, node: Node, key: str, variants: Mapping[Any, type[BaseModel]]) -> None:
        selector = self.widget(key)
        groups = []
        for value, variant in variants.items():
            default = node.default if isinstance(node.default, variant) else None
            inner = list(nodes(variant, _below(key, value), default))
            note = self._notes.get(str(value), "")
            if not inner and not note:
                continue
            with gr.Group(visible=value == selector.value, elem_classes="method") as group:
                if note:
                    gr.Markdown(note, elem_classes="tw-note")
                with gr.Row(elem_classes="fields"):
                    for field in inner:
                        self._draw_field(field, depends=(key, value))
            groups.append((group, value))
        if groups:
            selector.change(  # type: ignore[attr-defined]
                lambda chosen: several([gr.Group(visible=value == chosen) for _, value in groups]),
                selector,
                [group for group, _ in groups],
                queue=False,
                show_progress="hidden",
                api_visibility="private",
            )


def several(updates: list[Any]) -> Any:
    """Return updates as an event wants them: those of several components in a list, that of one alone."""
    return updates[0] if len(updates) == 1 else updates


def _json_path(entry: Entry) -> list[str]:
    """Return the keys of a widget's value in the JSON: a union's choice is its `name`, a variant has no level."""
    if entry.depends is None:
        return [*entry.key.split("."), *(["name"] if entry.chooses else [])]
    selector, value = entry.depends
    return [*selector.split("."), *entry.key.removeprefix(_below(selector, value)).split(".")]


def _below(key: str, value: Any) -> str:
    """Return what the keys of settings begin with that show while a selector or a switch has a value."""
    return f"{key}." if value is True else f"{key}.{value}."
