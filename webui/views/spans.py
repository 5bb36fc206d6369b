"""Parts of a text with a label each."""

from __future__ import annotations

from backend.interfaces import Prediction, Row
from webui import render
from webui.views.highlight import Span, highlighted
from webui.views.view import FormView


class SpansView(FormView):
    """Entities in the text that was typed."""

    def show(self, answer: Prediction, row: Row) -> str:
        """Return the text with its entities in colours, and a table of them."""
        found = answer["entities"]
        spans = [Span(one["start"], one["end"], one["label"], f"{one['score']:.1%}") for one in found]
        text = highlighted(row["text"], spans)
        if not found:
            return text + render.note("Nothing was found in this text.")
        rows = [(one["text"], one["label"], one["score"], f"{one['start']}-{one['end']}") for one in found]
        return text + render.table(("text", "label", "probability", "characters"), rows)
