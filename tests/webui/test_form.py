from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import gradio as gr
import pytest
from pydantic import Field

from backend.errors import UserError
from backend.interfaces import Options
from backend.spec import JobSpec, dotted_keys, parse_job
from backend.tasks import TASKS
from backend.tuning import TUNINGS
from webui.form import Form
from webui.widgets import humanize


class Sharp(Options):
    name: Literal["sharp"] = "sharp"
    edge: float = Field(0.5, ge=0, le=1, description="How sharp.")


class Blunt(Options):
    name: Literal["blunt"] = "blunt"


class Part(Options):
    size: int = Field(3, ge=1, description="How large.")


class Tool(Options):
    title: str = Field(description="What it is called.")
    kind: Literal["saw", "axe"] = Field("axe", description="What it does.")
    used: bool = Field(False, description="Whether it was used.")
    blade: Annotated[Sharp | Blunt, Field(discriminator="name")] = Field(Sharp(), description="Which blade.")
    part: Part = Field(default_factory=Part, description="A part.")
    columns: dict[str, str] = Field(default_factory=dict, description="Names.")
    tags: tuple[str, ...] = Field((), description="Words.")
    limit: int | None = Field(None, description="The most.")


def drawn(model: type[Options], *keys: str, **settings: Any) -> Form:
    form = Form(model, **settings)

    async def draw() -> None:  # where no event loop runs, gradio makes one and never closes it
        with gr.Blocks():
            if keys:
                form.draw(*keys)
            form.draw_rest()

    with ThreadPoolExecutor(1) as other:  # a browser's event loop may be running in this thread
        other.submit(asyncio.run, draw()).result()
    return form


def values(form: Form, **changed: Any) -> list[Any]:
    """Return what the widgets hold, with some of them filled in otherwise."""
    return [changed.get(entry.key.replace(".", "__"), entry.widget.value) for entry in form.entries]


def widgets(form: Form) -> dict[str, type]:
    return {entry.key: type(entry.widget) for entry in form.entries}


def test_every_kind_of_field_has_its_widget() -> None:
    assert widgets(drawn(Tool)) == {
        "title": gr.Textbox,
        "kind": gr.Dropdown,
        "used": gr.Checkbox,
        "blade": gr.Radio,
        "blade.sharp.edge": gr.Number,
        "part.size": gr.Number,
        "columns": gr.Textbox,
        "tags": gr.Textbox,
        "limit": gr.Number,
    }


def test_the_description_of_a_field_is_the_help_of_its_widget_and_bounds_are_kept() -> None:
    form = drawn(Tool)
    size: Any = form.widget("part.size")
    assert (size.label, size.info, size.value, size.minimum) == ("Size", "How large.", 3, 1)
    edge: Any = form.widget("blade.sharp.edge")
    assert (edge.minimum, edge.maximum) == (0, 1)


def test_the_untouched_form_is_the_default() -> None:
    form = drawn(Tool, values={"title": "x"})
    assert Tool.model_validate(form.collect(*values(form))) == Tool(title="x")


def test_what_was_filled_in_is_collected() -> None:
    form = drawn(Tool)
    filled = values(
        form, title=" saw ", columns="text=review, label = stars", tags='one, "two, three"', part__size=5, used=True
    )
    assert Tool.model_validate(form.collect(*filled)) == Tool(
        title="saw",
        columns={"text": "review", "label": "stars"},
        tags=("one", "two, three"),
        part=Part(size=5),
        used=True,
    )


def test_only_the_chosen_variant_is_collected() -> None:
    form = drawn(Tool)
    assert form.collect(*values(form, blade="blunt"))["blade"] == {"name": "blunt"}
    assert form.collect(*values(form, blade__sharp__edge=0.9))["blade"] == {"name": "sharp", "edge": 0.9}


def test_a_pair_without_a_sign_is_explained() -> None:
    form = drawn(Tool)
    with pytest.raises(UserError, match='columns: "review" is not name=column; write for example text=review'):
        form.collect(*values(form, columns="review"))


def test_a_field_is_drawn_once_wherever_the_page_wants_it() -> None:
    form = drawn(Tool, "part.size", "blade")
    keys = [entry.key for entry in form.entries]
    assert keys[:2] == ["part.size", "blade"]
    assert len(keys) == len(set(keys)) == len(drawn(Tool).entries)


def test_a_page_that_names_a_field_that_is_not_there_fails_at_once() -> None:
    with pytest.raises(KeyError, match="Tool has no field colour"):
        Form(Tool, {"colour": "red"})


def test_a_new_field_appears_by_itself() -> None:
    class Better(Tool):
        weight: float = Field(1.5, gt=0, description="How heavy.")

    form = drawn(Better)
    assert widgets(form)["weight"] is gr.Number
    assert form.collect(*values(form, title="x"))["weight"] == 1.5


def test_a_field_of_a_kind_without_a_widget_is_named() -> None:
    class Odd(Options):
        when: set[int] = Field(default_factory=set, description="Unheard of.")

    with pytest.raises(TypeError, match="when: the form has no widget"):
        drawn(Odd)


def test_every_setting_of_a_job_has_a_widget() -> None:
    fixed = {"version", "task.name", "tuning.name"}
    wanted = {key for key in dotted_keys(JobSpec) if key not in fixed} | {"task", "tuning"}
    form = drawn(JobSpec)
    variants = {f"tuning.{name}." for name in TUNINGS} | {f"task.{name}." for name in TASKS}
    found = set()
    for entry in form.entries:
        prefix = next((prefix for prefix in variants if entry.key.startswith(prefix)), None)
        found.add(f"{entry.key.partition('.')[0]}.{entry.key.removeprefix(prefix)}" if prefix else entry.key)
    assert found == wanted


@pytest.mark.parametrize("name", list(TUNINGS))
def test_every_tuning_can_be_chosen(name: str) -> None:
    form = drawn(JobSpec, values={"model": "m", "data.train": "reviews.csv", "tuning": name})
    assert parse_job(form.collect(*values(form))).tuning == TUNINGS[name].Options.model_validate({})


def test_a_new_tuning_appears_by_itself() -> None:
    class Third(Options):
        name: Literal["third"] = "third"
        rank: int = Field(8, ge=1, description="How much.")

    class Job(Options):
        tuning: Annotated[Sharp | Blunt | Third, Field(discriminator="name")] = Field(Blunt(), description="Which.")

    form = drawn(Job)
    radio: Any = form.widget("tuning")
    assert [name for _, name in radio.choices] == ["sharp", "blunt", "third"]
    assert form.collect(*values(form, tuning="third")) == {"tuning": {"name": "third", "rank": 8}}


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_can_be_chosen_from_a_list(name: str) -> None:
    form = drawn(JobSpec, values={"model": "m", "data.train": "reviews.csv", "task": name})
    assert isinstance(form.widget("task"), gr.Dropdown)
    assert parse_job(form.collect(*values(form))).task == TASKS[name].Options.model_validate({})


def test_suggestions_make_a_list_that_can_be_typed_into() -> None:
    form = drawn(Tool, suggestions={"title": ["one", "two"]})
    title: Any = form.widget("title")
    assert isinstance(title, gr.Dropdown)
    assert title.allow_custom_value


def test_names_are_written_for_people() -> None:
    assert humanize("learning_rate") == "Learning rate"
