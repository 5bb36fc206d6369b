"""The part of a text that answers a question."""

from __future__ import annotations

from backend.interfaces import Prediction, Row
from webui import render
from webui.views.highlight import Span, highlighted
from webui.views.view import FormView

NO_ANSWER = "The text holds no answer."


class AnswerView(FormView):
    """An answer, where it stands, and what else it could be."""

    def show(self, answer: Prediction, row: Row) -> str:
        """Return the answer in large letters, its place in the text, and the alternatives."""
        found = Span(answer["start"], answer["end"], title=f"{answer['score']:.1%}")
        rows = [(one["answer"] or "no answer", one["score"]) for one in (answer, *answer["alternatives"])]
        return (
            render.headline(answer["answer"] or NO_ANSWER)
            + highlighted(row["context"], [found])
            + render.table(("answer", "probability"), rows, "What it could be")
        )
