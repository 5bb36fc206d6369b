"""A text that the model writes."""

from __future__ import annotations

import gradio as gr
from gradio.components import Component

from backend.interfaces import Prediction, Row
from webui.views.view import FormView


class TextView(FormView):
    """The whole answer at once: a search over several beams has nothing to show before its end."""

    def draw_answer(self) -> Component:
        """Draw a text that can be copied."""
        return gr.Textbox(
            label="Answer",
            lines=4,
            max_lines=20,
            interactive=False,
            buttons=["copy"],
            elem_id=f"answer-{self.name}",
        )

    def show(self, answer: Prediction, row: Row) -> str:
        """Return the text."""
        text: str = answer["text"]
        return text
