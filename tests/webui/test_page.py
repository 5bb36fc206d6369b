"""The page in a real browser, on real runs of the real small model."""

from __future__ import annotations

import csv
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from backend.rundir import RunDir

MINUTES = 60_000
expect.set_options(timeout=MINUTES)


def labelled(page: Page, label: str) -> Locator:
    """Return the visible field whose label, which its description may follow, begins with this."""
    return page.get_by_label(re.compile(rf"^\s*{label}\b")).locator("visible=true").first


def fill(page: Page, label: str, value: str) -> None:
    """Type into the field with this label and leave it, as a person does."""
    field = labelled(page, label)
    field.fill(value)
    field.press("Tab")


def start_run(page: Page, csv_file: Path) -> None:
    """Upload a file whose columns have other names, say which is which, and start a short run."""
    expect(page.locator("#preview")).to_contain_text("First rows")
    page.locator("input[type=file]").first.set_input_files(csv_file)
    expect(page.locator("#preview")).to_contain_text('there is no column "text"')
    fill(page, "Columns", "text=review, label=stars")
    expect(page.locator("#preview")).to_contain_text("negative")
    expect(page.locator("#preview .tw-table")).to_be_visible()
    fill(page, "Epochs", "1")
    fill(page, "Batch size", "16")
    fill(page, "Name", "by hand")
    expect(page.locator("#command")).to_contain_text("--schedule.batch_size")
    page.locator("#start").click()


def one_run(workspace: Path) -> RunDir:
    for _ in range(300):
        if found := RunDir.all(workspace):
            return found[0]
        time.sleep(0.1)
    raise AssertionError("no run was made")


def predict(page: Page, text: str) -> None:
    labelled(page, "Text").fill(text)
    page.locator("#predict-text-classification").click()
    expect(page.locator("#answer-text-classification .tw-chosen")).to_be_visible(timeout=2 * MINUTES)


def test_a_person_trains_reloads_predicts_exports_and_predicts_with_the_bundle(
    server: Any, page: Page, reviews: Callable[[int], Path]
) -> None:
    page.goto(server.url)
    file = reviews(48)
    start_run(page, file)

    heading = page.locator("#run")
    expect(heading).to_contain_text("by hand")
    run = one_run(server.workspace)
    expect(page).to_have_url(re.compile(f"run={run.id}"))
    page.reload()
    expect(heading).to_contain_text(run.id)
    expect(heading.locator(".tw-badge")).to_have_text("finished", timeout=5 * MINUTES)
    expect(page.locator("#curves .js-plotly-plot")).to_be_visible()
    expect(page.locator("#report")).to_contain_text("Result on the test rows")
    assert run.job.data.train.startswith(str(server.workspace / "uploads"))

    page.get_by_role("tab", name="Predict").click()
    predict(page, "A film to remember.")
    page.locator("input[type=file]").last.set_input_files(file)
    page.locator("#predict-file").click()
    with page.expect_download(timeout=2 * MINUTES) as answered:
        page.locator("#predictions a").first.click()
    rows = list(csv.DictReader(Path(answered.value.path()).read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 48
    assert {row["predicted_label"] for row in rows} <= {"negative", "positive"}

    page.get_by_role("tab", name="Export").click()
    fill(page, "Largest drop of f1_macro", "1")
    page.locator("#export").click()
    expect(page.locator("#export-state")).to_contain_text("Proof", timeout=5 * MINUTES)
    with page.expect_download() as bundle:
        page.locator("#download").click()
    with zipfile.ZipFile(bundle.value.path()) as archive:
        assert {Path(name).name for name in archive.namelist()} >= {"manifest.json", "model.onnx", "tokenizer.json"}

    page.get_by_role("tab", name="Predict").click()
    page.locator("#source input").click()
    page.get_by_role("option", name="int8").click()
    predict(page, "Dull and lifeless.")
    assert "Traceback" not in server.log()


def test_a_run_finishes_though_the_web_server_is_killed_and_the_page_finds_it_again(
    server: Any, page: Page, reviews: Callable[[int], Path]
) -> None:
    page.goto(server.url)
    start_run(page, reviews(48))
    run = one_run(server.workspace)
    for _ in range(1200):
        if run.status().state not in ("queued", "preparing"):
            break
        time.sleep(0.1)
    server.kill()
    assert not run.status().ended

    for _ in range(3000):
        if run.status().ended:
            break
        time.sleep(0.1)
    assert run.status().state == "finished", run.status().message
    server.start()
    page.goto(f"{server.url}?tab=runs")
    expect(page.locator("#run")).to_contain_text(run.id)
    expect(page.locator("#run .tw-badge")).to_have_text("finished")
    expect(page.locator("#report")).to_contain_text("Result on the test rows")


@pytest.mark.slow
def test_a_run_is_stopped_and_resumed_by_hand(server: Any, page: Page, reviews: Callable[[int], Path]) -> None:
    page.goto(server.url)
    start_run(page, reviews(800))  # enough that it is still at work when it is told to stop
    badge = page.locator("#run .tw-badge")
    expect(badge).to_have_text("training", timeout=2 * MINUTES)
    page.locator("#stop").click()
    expect(badge).to_have_text("stopped", timeout=2 * MINUTES)
    stopped = one_run(server.workspace).status().step
    page.locator("#resume").click()
    expect(badge).to_have_text("finished", timeout=5 * MINUTES)
    assert 0 < stopped < one_run(server.workspace).status().total_steps


def test_a_setting_that_is_wrong_is_explained_and_nothing_starts(server: Any, page: Page) -> None:
    page.goto(server.url)
    expect(page.locator("#command")).to_contain_text("tunewright train")
    fill(page, "Learning rate", "-1")
    expect(page.locator("#wrong")).to_contain_text("schedule.learning_rate: Input should be greater than 0")
    page.locator("#start").click()
    expect(page.locator("#refused")).to_contain_text("The training did not start")
    expect(page.locator("#wrong")).to_contain_text("schedule.learning_rate: Input should be greater than 0")
    assert RunDir.all(server.workspace) == []


def test_a_phone_has_no_sideways_scrolling(server: Any, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("train", "runs", "predict", "export"):
        page.goto(f"{server.url}?tab={tab}")
        page.get_by_role("tab", selected=True).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
