"""What is asked before a training, and a search in place of one, in a real browser."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from backend.data.samples import HERE
from backend.search_dir import SearchDir

MINUTES = 60_000
TASK = "text-classification"


@pytest.fixture
def tiny(tmp_path: Path, save_tiny_model: Callable[[Path, str, Any], Path]) -> tuple[Path, Path]:
    """Return a tiny model, and rows for it."""
    with (HERE / "movie_reviews.csv").open(encoding="utf-8", newline="") as sample:
        rows = list(csv.DictReader(sample))[:60]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return save_tiny_model(tmp_path / "model", TASK, rows), file


def field(page: Page, label: str) -> Locator:
    return page.get_by_label(re.compile(rf"^\s*{label}\b")).locator("visible=true").first


def fill(page: Page, label: str, value: str) -> None:
    field(page, label).fill(value)
    field(page, label).press("Tab")


def prepare(page: Page, model: Path, rows: Path) -> None:
    expect(page.locator("#preview")).to_contain_text("First rows", timeout=MINUTES)
    page.locator("input[type=file]").first.set_input_files(rows)
    fill(page, "Model", str(model))
    fill(page, "Epochs", "1")
    expect(page.locator("#command")).to_contain_text(str(model), timeout=MINUTES)
    expect(page.locator("#command")).to_contain_text("rows.jsonl", timeout=MINUTES)


def test_the_layers_that_a_job_trains_are_shown_before_it_starts(
    server: Any, page: Page, tiny: tuple[Path, Path]
) -> None:
    page.goto(server.url)
    prepare(page, *tiny)
    page.locator("#show-layers").click()
    expect(page.locator("#layers")).to_contain_text("memory of each process", timeout=2 * MINUTES)
    expect(page.locator("#layers .tw-table tr").last).to_contain_text("total")


def test_what_fits_is_told_before_a_job_starts(server: Any, page: Page) -> None:
    page.goto(server.url)
    expect(page.locator("#command")).to_contain_text("tunewright train", timeout=MINUTES)
    page.get_by_role("button", name="Memory: what it takes").click()
    page.locator("#plan-memory").get_by_role("textbox").fill("plenty")
    page.locator("#show-plan").click()
    expect(page.locator("#plan")).to_contain_text('"plenty" is no amount of memory', timeout=MINUTES)
    page.locator("#plan-memory").get_by_role("textbox").fill("1500mb")
    page.locator("#show-plan").click()
    expect(page.locator("#plan")).to_contain_text("The fastest that does takes", timeout=MINUTES)
    expect(page.locator("#plan")).to_contain_text("--schedule.accumulation_steps")
    assert "Traceback" not in server.log()


def test_a_search_outlives_the_server_and_shows_its_best_run(server: Any, page: Page, tiny: tuple[Path, Path]) -> None:
    page.goto(server.url)
    prepare(page, *tiny)
    page.get_by_role("button", name="Search: try settings").click()
    page.locator("#search-space textarea").fill("schedule.learning_rate")
    page.locator("#start-search").click()
    expect(page.locator("#search-wrong")).to_contain_text("needs what it may be after a space", timeout=MINUTES)
    page.locator("#search-space textarea").fill("schedule.learning_rate 1e-5,1e-2")
    page.locator("#start-search").click()
    page.get_by_role("button", name="Searches").click(timeout=MINUTES)
    expect(page.locator("#search-state")).to_contain_text("at work", timeout=MINUTES)
    server.kill()
    server.start()
    page.goto(server.url)
    expect(page.locator("#preview")).to_contain_text("First rows", timeout=MINUTES)  # it hears clicks from now on
    page.get_by_role("tab", name="Runs").click()
    page.get_by_role("button", name="Searches").click(timeout=MINUTES)
    expect(page.locator("#search-state")).to_contain_text("finished, 2 of 2 runs, the best has", timeout=5 * MINUTES)
    (folder,) = SearchDir.all(server.workspace)
    results = folder.results()
    assert results is not None
    for trial in results.trials:
        expect(page.locator("#search-trials")).to_contain_text(trial.run)
    assert "Traceback" not in server.log()
