"""The plots of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

TRAINING, VALIDATION, METRIC = "#94a3b8", "#4f46e5", "#0d9488"
QUIET, LINES = "#7c8698", "rgba(125, 135, 150, 0.2)"  # readable on a light page and on a dark one

MOST_POINTS = 200  # of a measurement; more are means of some
SERIES = (METRIC, VALIDATION, "#d97706", "#db2777", TRAINING)


class Panel(NamedTuple):
    """A chart of measurements: all of a record whose names say that they are of its kind."""

    title: str
    holds: Callable[[str], bool]
    suffix: str  # of the numbers on its axis
    scale: float = 1.0
    stacked: bool = False  # as shares of their sum


PANELS = (
    Panel("Throughput", lambda name: name.endswith("_per_second"), "/s"),
    # Without the communication, which happens within the other parts.
    Panel(
        "Where the time of a step goes",
        lambda name: name.startswith("seconds_") and "comm" not in name,
        "%",
        stacked=True,
    ),
    Panel("Memory per process", lambda name: name.startswith("memory_"), " GiB", 2**-30),
    Panel("Model FLOPs utilization", lambda name: name == "mfu", "%", 100),
)


def measurements(records: Sequence[Mapping[str, Any]], panel: Panel) -> Any:
    """Return the chart of a kind of measurements over the steps; None if there are none."""
    from plotly import graph_objects

    training = _thinned([record for record in records if record.get("kind") == "train"])
    names = [name for name in (training[-1] if training else {}) if panel.holds(name)]
    if not names:
        return None
    figure = graph_objects.Figure()
    for number, name in enumerate(names):
        curve = graph_objects.Scatter(
            x=[point["step"] for point in training],
            y=[point.get(name, 0.0) * panel.scale for point in training],
            name=_in_words(name),
            mode="lines",
            line={"color": SERIES[number % len(SERIES)], "width": 0 if panel.stacked else 2},
        )
        figure.add_trace(curve.update(stackgroup="one", groupnorm="percent") if panel.stacked else curve)
    _plain(figure, height=250)
    figure.update_layout(title={"text": panel.title, "font": {"size": 14}}, showlegend=len(names) > 1)
    figure.update_yaxes(rangemode="tozero", ticksuffix=panel.suffix, hoverformat=".3~g", automargin=True)
    return figure


def _in_words(name: str) -> str:
    return name.removeprefix("seconds_").removeprefix("memory_").removesuffix("_per_second").replace("_", " ")


def _thinned(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return at most so many points as can be told apart: the means of some that follow each other."""
    some = -(-len(points) // MOST_POINTS)
    if some < 2:
        return list(points)
    groups = [points[start : start + some] for start in range(0, len(points), some)]
    numbers = [name for name, value in points[-1].items() if isinstance(value, int | float)]
    return [{name: sum(one.get(name, 0.0) for one in group) / len(group) for name in numbers} for group in groups]


def _plain(figure: Any, height: int) -> None:
    """Give a figure over the steps the page's look."""
    figure.update_layout(
        height=height,
        margin={"l": 44, "r": 12, "t": 36, "b": 36},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": QUIET, "size": 12, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "y": -0.16},
        hovermode="x unified",
    )
    figure.update_xaxes(gridcolor=LINES, zeroline=False, rangemode="tozero")
    figure.update_yaxes(gridcolor=LINES, zeroline=False)


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
    _plain(figure, height=300)
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
