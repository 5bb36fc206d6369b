"""What the page shows of a run, without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.rundir import Owner, RunDir, Status
from backend.spec import parse_job
from backend.tasks import TASKS
from webui import charts, render, run_view
from webui.shared import changed, keep_upload
from webui.summary import best, summaries, summarize


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir.create(tmp_path, parse_job({"name": "<b>mine</b>", "model": "m", "data": {"train": "reviews.csv"}}))
    made.append_metrics({"kind": "train", "step": 1, "loss": 0.7})
    made.append_metrics({"kind": "evaluation", "step": 2, "loss": 0.6, "f1_macro": 0.5})
    made.append_metrics({"kind": "evaluation", "step": 4, "loss": 0.5, "f1_macro": 0.75})
    made.append_metrics({"kind": "evaluation", "step": 6, "loss": 0.55, "f1_macro": 0.7})
    made.write_status(Status(state="training", owner=Owner.me(), step=6, total_steps=12, seconds_left=65.0))
    return made


def test_text_of_a_user_is_never_markup_nor_template() -> None:
    assert render.text("<b>&{{x}} ${y}") == "&lt;b&gt;&amp;&#123;&#123;x&#125;&#125; &#36;&#123;y&#125;"


def test_a_summary_has_progress_and_the_best_metric(run: RunDir) -> None:
    summary = summarize(run)
    assert (summary.state, summary.share, summary.metric, summary.best) == ("training", 0.5, "f1_macro", 0.75)


def test_the_best_value_of_a_metric_may_be_the_lowest() -> None:
    records = [{"perplexity": 9.0}, {"perplexity": 3.0, "f1_macro": 0.25}, {"f1_macro": 0.75}]
    assert best(records, TASKS["masked-language-modelling"]) == 3.0
    assert best(records, TASKS["text-classification"]) == 0.75
    assert best([], TASKS["text-classification"]) is None


def test_long_texts_in_a_table_wrap() -> None:
    assert '<td class="tw-long">' in render.table(("text",), [("word " * 20,)])
    assert "tw-long" not in render.table(("text",), [("word",)])


def test_a_run_that_cannot_be_read_is_listed_with_the_reason(run: RunDir, tmp_path: Path) -> None:
    run.job_file.write_text('{"model": "m", "dat": {}}', encoding="utf-8")
    (summary,) = summaries(tmp_path)
    assert summary.state == "failed"
    assert 'dat: there is no such setting; did you mean "data' in summary.message


def test_the_heading_tells_the_progress_and_the_time_left(run: RunDir) -> None:
    html = run_view.heading(run, summarize(run))
    assert "step 6 of 12 · about 1 min 05 s left" in html
    assert "&lt;b&gt;mine&lt;/b&gt;" in html


def test_the_heading_of_a_failure_has_the_message_in_full(run: RunDir) -> None:
    message = "the data has faults:\n  row 1: is empty\n  row 2: is empty"
    run.write_status(Status(state="failed", owner=Owner.me(), message=message))
    assert message in run_view.heading(run, summarize(run))


def test_the_list_marks_the_chosen_run(run: RunDir) -> None:
    summary = summarize(run)
    assert 'aria-pressed="true"' in run_view.run_list([summary], run.id)
    assert 'aria-pressed="false"' in run_view.run_list([summary], "another")


def test_the_report_shows_the_test_before_the_validation(run: RunDir) -> None:
    tables = [{"title": "Classes", "columns": ["label", "f1"], "rows": [["good", 0.5]]}]
    part = {"metrics": {"accuracy": 0.5, "f1_macro": 0.25, "f1_micro": 0.75}, "tables": tables}
    run.write_report({"validation": part, "test": part})
    html = run_view.report(run)
    assert html.index("test rows") < html.index("validation rows")
    assert "0.2500" in html
    assert "All 3 figures" in html


def test_a_report_without_a_test_shows_the_validation_alone(run: RunDir) -> None:
    run.write_report({"validation": {"metrics": {"accuracy": 0.5}}, "test": None})
    assert "test rows" not in run_view.report(run)


def test_the_report_shows_the_doubtful_rows_of_the_data(run: RunDir) -> None:
    table = {"title": "Doubtful rows", "columns": ["what", "rows"], "rows": [["duplicates", 3]]}
    run.write_report({"validation": {"metrics": {"accuracy": 0.5}}, "test": None, "data": {"tables": [table]}})
    assert "Doubtful rows" in run_view.report(run)


def test_the_curves_hold_the_losses_and_the_metric(run: RunDir) -> None:
    figure = charts.learning_curves(run.metrics(), "f1_macro")
    assert {trace.name: list(trace.y) for trace in figure.data} == {
        "training loss": [0.7],
        "validation loss": [0.6, 0.5, 0.55],
        "f1_macro": [0.5, 0.75, 0.7],
    }


def steps(count: int, **measured: float) -> list[dict[str, object]]:
    return [{"kind": "train", "step": step, "loss": 1.0, **measured} for step in range(1, count + 1)]


def test_each_chart_finds_the_measurements_of_its_kind_by_their_names() -> None:
    records = steps(
        2, seconds=2.0, seconds_data=0.5, seconds_new=1.0, memory_largest=2.0**31, rows_per_second=4.0, mfu=0.25
    )
    shown = {panel.title: charts.measurements(records, panel) for panel in charts.PANELS}
    assert {title: {trace.name: list(trace.y) for trace in figure.data} for title, figure in shown.items()} == {
        "Throughput": {"rows": [4.0, 4.0]},
        "Where the time of a step goes": {"data": [0.5, 0.5], "new": [1.0, 1.0]},
        "Memory per process": {"largest": [2.0, 2.0]},
        "Model FLOPs utilization": {"mfu": [25.0, 25.0]},
    }


def test_a_run_of_before_there_were_measurements_has_no_charts_of_them() -> None:
    assert [charts.measurements(steps(3), panel) for panel in charts.PANELS] == [None] * len(charts.PANELS)


def test_many_steps_are_drawn_as_the_means_of_some() -> None:
    records = steps(charts.MOST_POINTS * 3, mfu=0.5)
    records[0]["mfu"] = 0.8
    (curve,) = charts.measurements(records, charts.PANELS[-1]).data
    assert len(curve.x) == charts.MOST_POINTS
    assert list(curve.x)[:2] == [2, 5]
    assert list(curve.y)[:2] == pytest.approx([60, 50])


@pytest.mark.parametrize(("seconds", "words"), [(41.7, "42 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")])
def test_durations_are_written_for_people(seconds: float, words: str) -> None:
    assert render.duration(seconds) == words


def test_what_did_not_change_is_left_alone() -> None:
    same, other = changed(["a", "b"], ["a", "c"])
    assert same["__type__"] == "update"
    assert "value" not in same
    assert other == "c"


def test_an_upload_is_kept_once_under_a_safe_name(tmp_path: Path) -> None:
    uploaded = tmp_path / "my file (1);.csv"
    uploaded.write_text("text,label\n", encoding="utf-8")
    kept = keep_upload(tmp_path / "runs", uploaded)
    assert kept.parent == tmp_path / "runs" / "uploads"
    assert kept.name.endswith("-my_file_1_.csv")
    assert keep_upload(tmp_path / "runs", uploaded) == kept
    uploaded.write_text("text,label\na,b\n", encoding="utf-8")
    assert keep_upload(tmp_path / "runs", uploaded) != kept
