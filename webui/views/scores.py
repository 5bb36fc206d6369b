"""Labels with their probabilities, or a number."""

from __future__ import annotations

from backend.interfaces import Prediction, Row
from webui import render
from webui.views.view import FormView


class ScoresView(FormView):
    """One label, the labels that apply, or a number."""

    def show(self, answer: Prediction, row: Row) -> str:
        """Return the answer in large letters, and below it every label with its probability as a bar."""
        return shown(answer)


def shown(answer: Prediction) -> str:
    """Return a label, labels or a score as HTML."""
    if "score" in answer:
        return render.headline(f"{answer['score']:.4g}")
    chosen = answer["labels"] if "labels" in answer else [answer["label"]]
    return render.headline(", ".join(chosen) or "None of the labels") + render.shares(answer["scores"].items(), chosen)
