"""The plots of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TRAINING, VALIDATION, METRIC = "#94a3b8", "#4f46e5", "#0d9488"
QUIET, LINES = "#7c8698", "rgba(125, 135, 150, 0.2)"  # readable on a light page and on a dark one


def learning_curves(records: Sequence[Mapping[str, Any]], metric: str) -> Any:
    """Return the losses and the validation metric over the steps, side by side."""
    from plotly import graph_objects
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, subplot_titles=("Loss", f"Validation {metric}"), horizontal_spacing=0.08)
    training = [record for record in records if record.get("kind") == "train"]
    evaluation = [record for record in records if record.get("kind") == "evaluation"]
    curves = (
        ("training loss", training, "loss", TRAINING, 1),
        ("validation loss", evaluation, "loss", VALIDATION, 1),
        (metric, evaluation, metric, METRIC, 2),
    )
    for name, points, key, color, column in curves:
        curve = graph_objects.Scatter(
            x=[point["step"] for point in points if key in point],
            y=[point[key] for point in points if key in point],
            name=name,
            mode="lines" if points is training else "lines+markers",
            line={"color": color, "width": 2},
        )
        figure.add_trace(curve, row=1, col=column)
    figure.update_layout(
        height=300,
        margin={"l": 44, "r": 12, "t": 36, "b": 36},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": QUIET, "size": 12, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "y": -0.16},
        hovermode="x unified",
    )
    figure.update_xaxes(gridcolor=LINES, zeroline=False, rangemode="tozero")
    figure.update_yaxes(gridcolor=LINES, zeroline=False)
    return figure


def importance(shares: Mapping[str, float]) -> Any:
    """Return how much of the differences between the trials of a search each setting explains."""
    from plotly import graph_objects

    ordered = sorted(shares.items(), key=lambda item: item[1])
    bars = graph_objects.Bar(
        x=[share for _, share in ordered],
        y=[name for name, _ in ordered],
        orientation="h",
        marker={"color": VALIDATION},
        text=[f"{share:.0%}" for _, share in ordered],
    )
    figure = graph_objects.Figure(bars)
    figure.update_layout(
        title={"text": "What explains the differences", "font": {"size": 14}},
        height=110 + 34 * len(ordered),
        margin={"l": 12, "r": 12, "t": 44, "b": 32},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": QUIET, "size": 12, "family": "system-ui, sans-serif"},
    )
    figure.update_xaxes(gridcolor=LINES, zeroline=False, rangemode="tozero", tickformat=".0%")
    figure.update_yaxes(automargin=True)
    return figure
