"""The words that were left out of a text."""

from __future__ import annotations

import gradio as gr

from backend.interfaces import Prediction, Row
from webui import render
from webui.shared import QUIET
from webui.views.view import FormView

MASK = "[MASK]"  # stands for the model's own

INSERT = """(text) => {
  const box = document.querySelector('#BOX textarea');
  return box.value.slice(0, box.selectionStart) + 'MASK' + box.value.slice(box.selectionEnd);
}"""


class FillView(FormView):
    """A text with its masks filled, and what else could stand at each."""

    def draw_tools(self) -> None:
        """Draw a button that leaves a word out."""
        box = self.boxes["text"]
        with gr.Row(elem_classes="links"):
            button = gr.Button(f"Put {MASK} in place of the selection", size="sm", elem_id="mask")
            code = INSERT.replace("'MASK'", f"'{MASK}'").replace("BOX", str(box.elem_id))
            button.click(None, box, box, js=code, **QUIET)

    def show(self, answer: Prediction, row: Row) -> str:
        """Return the filled text, and for each mask the likeliest tokens as bars."""
        parts = [render.headline(answer["text"])]
        for number, tokens in enumerate(answer["masks"], start=1):
            title = f"Mask {number}" if len(answer["masks"]) > 1 else "What could stand there"
            scores = [(one["token"], one["score"]) for one in tokens]
            parts.append(render.shares(scores, [tokens[0]["token"]], title))
        return "".join(parts)
