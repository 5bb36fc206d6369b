"""The base of the views: the form of one task on the Predict tab, and what all of them do alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from pydantic import ValidationError

from backend.answering import Predictor
from backend.errors import UserError
from backend.interfaces import Column, Generation, Prediction, Row, Task
from backend.spec import explain
from webui import predicting, render
from webui.form import Form
from webui.predicting import Trained
from webui.shared import EVENT, QUIET

PACE = 0.1  # seconds between two looks at an answer that is being written: more often, and the browser falls behind
NO_MODEL = "choose a model first; a run appears when it has finished"


class View(ABC):
    """The form of one task; it shows while a model of this task is chosen.

    `source` is the list of models on the tab. A view is drawn once and knows its widgets from then on.
    """

    def __init__(self, name: str, task: Task, source: gr.Dropdown) -> None:
        self.name = name
        self.task = task
        self.source = source
        self.settings: Form | None = None

    def build(self) -> None:
        """Draw the form, hidden, and connect it."""
        with gr.Column(visible=False, elem_classes="answer", elem_id=f"form-{self.name}") as self.group:
            self.draw()

    @abstractmethod
    def draw(self) -> None:
        """Draw what is typed and what is answered, and connect both."""

    @property
    def optional(self) -> dict[str, Component]:
        """The widgets of columns that not every model of the task reads."""
        return {}

    @property
    def outputs(self) -> list[Any]:
        """What `updates` has a value for, in its order."""
        return [self.group, *self.optional.values(), *(self.settings.inputs if self.settings else ())]

    def updates(self, model: Trained | None) -> list[Any]:
        """Fit the form to a model: hide it if the model is of another task, else show what the model reads."""
        if model is None or model.task_name != self.name:
            return [gr.Column(visible=False), *[gr.skip()] * (len(self.outputs) - 1)]
        inputs = {column.name for column in model.inputs}
        values: list[Any] = [gr.Column(visible=True)]
        values += [gr.update(visible=name in inputs) for name in self.optional]
        if self.settings and model.generation:
            usual = model.generation.model_dump()
            values += [gr.update(value=usual[entry.key]) for entry in self.settings.entries]
        return values

    def draw_settings(self) -> None:
        """Draw how the model writes, if it does; the model that is chosen brings its own values."""
        usual = self.task.generation(self.task.Options.model_validate({}), evaluating=False)
        if usual is not None:
            self.settings = Form(Generation, usual.model_dump())
            with gr.Accordion("How it writes", open=False):
                self.settings.draw(*self.settings.nodes)

    def generation(self, answers: Sequence[Any]) -> Generation | None:
        """Return the settings that the widgets hold. Raises UserError with each that is wrong."""
        if self.settings is None:
            return None
        try:
            return Generation.model_validate(self.settings.collect(*answers))
        except ValidationError as error:
            raise UserError("\n".join(explain(error, Generation))) from error


class FormView(View):
    """A text box for each column, a button, and a widget for the answer."""

    streams = False  # whether the answer is shown while it is written

    def draw(self) -> None:
        """Draw the text boxes, the button and the answer."""
        self.boxes = {column.name: self._box(column) for column in self._columns}
        self.draw_tools()
        self.draw_settings()
        with gr.Row(elem_classes="buttons"):
            button = gr.Button("Predict", variant="primary", elem_id=f"predict-{self.name}")
            stop = gr.Button("Stop", variant="stop", visible=self.streams, size="lg")
        wrong = gr.HTML(js_on_load=None, elem_classes="wrong")
        answer = self.draw_answer()
        asked: dict[str, Any] = {
            "fn": self.stream if self.streams else self.answer,
            "inputs": [self.source, *self.boxes.values(), *(self.settings.inputs if self.settings else ())],
            "outputs": [answer, wrong],
            "show_progress_on": answer,
            "preprocess": False,  # the settings' own rules say what is wrong
            **EVENT,
        }
        event = gr.on([button.click, *(box.submit for box in self.boxes.values())], **asked)
        stop.click(None, cancels=[event], **QUIET)

    @property
    def optional(self) -> dict[str, Component]:
        """The text boxes of columns that not every model reads."""
        return {column.name: self.boxes[column.name] for column in self._columns if column.optional}

    def draw_tools(self) -> None:
        """Draw what helps to fill in the text boxes; most views have nothing."""

    def draw_answer(self) -> Component:
        """Draw the widget of the answer."""
        return gr.HTML(js_on_load=None, elem_id=f"answer-{self.name}", elem_classes="tw-answer")

    @abstractmethod
    def show(self, answer: Prediction, row: Row) -> Any:
        """Return what the widget of the answer shows."""

    def answer(self, path: str | None, *given: Any) -> tuple[Any, str]:
        """Answer what was typed."""
        try:
            source, row, settings = self._question(path, given)
            (answer,) = source.predict([row], settings)
        except UserError as error:
            return gr.skip(), render.problem(str(error), "No prediction")
        return self.show(answer, row), ""

    def stream(self, path: str | None, *given: Any) -> Iterator[tuple[Any, str]]:
        """Show the answer to what was typed while it is written."""
        try:
            source, row, settings = self._question(path, given)
            yield self.show({"text": ""}, row), ""
            for text in paced(source.stream(row, settings)):
                yield self.show({"text": text}, row), gr.skip()
        except UserError as error:
            yield gr.skip(), render.problem(str(error), "No prediction")

    @cached_property
    def _columns(self) -> tuple[Column, ...]:
        return tuple(column for column in self.task.columns if column.role == "input" and column.kind == "text")

    def _box(self, column: Column) -> gr.Textbox:
        return gr.Textbox(
            label=column.name.replace("_", " ").capitalize(),
            info=column.description,
            lines=3,
            max_lines=12,
            visible=not column.optional,
            elem_id=f"{self.name}-{column.name}",
        )

    def _question(self, path: str | None, given: Sequence[Any]) -> tuple[Predictor, Row, Generation | None]:
        texts, settings = given[: len(self.boxes)], given[len(self.boxes) :]
        source = predictor_of(path)
        asked = dict(zip(self.boxes, texts, strict=True))
        return source, predicting.typed_row(source, asked), self.generation(settings)


def paced(texts: Iterable[str]) -> Iterator[str]:
    """Yield the latest text as often as a page can show it, and the last one in any case."""
    shown, text, at = "", "", 0.0
    for text in texts:
        if time.monotonic() - at >= PACE:
            yield text
            shown, at = text, time.monotonic()
    if text != shown:
        yield text


def predictor_of(path: str | None) -> Predictor:
    """Return what answers for the model that is chosen. Raises UserError if none is."""
    if not path:
        raise UserError(NO_MODEL)
    return predicting.predictor(Path(path))
