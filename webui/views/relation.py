"""How two marked parts of a text are related."""

from __future__ import annotations

import gradio as gr

from backend.interfaces import Prediction, Row
from webui.shared import QUIET
from webui.views.highlight import Span, highlighted
from webui.views.scores import shown
from webui.views.view import FormView

ROLES = {"e1": "head", "e2": "tail"}

# Puts the marks of one entity around the selected text, and takes its older marks away.
MARK = r"""(text) => {
  const box = document.querySelector('#BOX textarea');
  if (box.selectionStart === box.selectionEnd) return text;
  const clean = (part) => part.replace(/<\/?NAME(:[^<>]*)?>/g, '');
  const chosen = box.value.slice(box.selectionStart, box.selectionEnd);
  return clean(box.value.slice(0, box.selectionStart)) + '<NAME>' + clean(chosen) + '</NAME>'
    + clean(box.value.slice(box.selectionEnd));
}"""


class RelationView(FormView):
    """The relation of two entities that are marked in the text."""

    def draw_tools(self) -> None:
        """Draw a button for each entity that marks the selected text."""
        box = self.boxes["text"]
        with gr.Row(elem_classes="links"):
            for name, role in ROLES.items():
                button = gr.Button(f"Mark the selection as the {role}", size="sm", elem_id=f"mark-{name}")
                code = MARK.replace("BOX", str(box.elem_id)).replace("NAME", name)
                button.click(None, box, box, js=code, **QUIET)

    def show(self, answer: Prediction, row: Row) -> str:
        """Return the relation, the text with both entities in colours, and the probability of every relation."""
        spans = []
        for role in ROLES.values():
            entity = answer[role]
            kind = f" ({entity['type']})" if entity["type"] else ""
            spans.append(Span(entity["start"], entity["end"], role + kind))
        return highlighted(answer["text"], spans) + shown(answer)
