"""What there is to fill in below an Options class, in the order of its fields."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

SETTINGS = ".*"  # after the key of a union: the settings of its variants


@dataclass(frozen=True)
class Node:
    """One thing to fill in: a plain field, the choice between the variants of a union, or the settings of these.

    A method that is on or off is a union of one: a switch, and its settings.
    """

    key: str  # dotted; of the settings of the variants: the key of the union and ".*"
    field: FieldInfo
    default: Any
    variants: tuple[type[BaseModel], ...] = ()
    switch: bool = False


def nodes(model: type[BaseModel], prefix: str = "", default: BaseModel | None = None) -> Iterator[Node]:
    """Yield what there is to fill in below a model; a Literal with one value leaves nothing to choose."""
    for name, field in model.model_fields.items():
        kind = plain_type(field.annotation)
        value = getattr(default, name) if default is not None else _default(field)
        variants = _variants(kind)
        if kind is not field.annotation and isinstance(kind, type) and issubclass(kind, BaseModel):
            yield Node(prefix + name, field, value, (kind,), switch=True)
        elif variants:
            yield Node(prefix + name, field, value, variants)
            if any(True for variant in variants for _ in nodes(variant)):
                yield Node(prefix + name + SETTINGS, field, value, variants)
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from nodes(kind, f"{prefix}{name}.", value)
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


def plain_type(annotation: Any) -> Any:
    """Return X for `X | None`, and anything else as it is."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def _default(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True)
