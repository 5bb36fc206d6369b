"""A web server of its own process and a real browser."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from backend.data.formats import readers
from backend.data.reading import Record
from backend.data.samples import HERE, SAMPLES
from backend.rundir import Owner, RunDir, Status
from backend.spec import parse_job
from backend.tasks import TASKS

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
ROOT = Path(__file__).resolve().parents[2]


RUNNING: list[Server] = []


class Server:
    """The page's web server; killed and started again, it keeps its address and its workspace."""

    def __init__(self, workspace: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.workspace = workspace
        self.url = f"http://127.0.0.1:{self.port}/"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "webui.cli", "ui", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--workspace", str(self.workspace)], cwd=ROOT, stdout=log, stderr=log
            )
        for _ in range(600):
            assert self._process.poll() is None, self._log.read_text()
            try:
                urllib.request.urlopen(self.url, timeout=5).close()  # noqa: S310 - our own address
            except OSError:
                time.sleep(0.1)
            else:
                return
        pytest.fail(f"the page did not open: {self._log.read_text()}")

    def kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def serving(workspace: Path) -> Iterator[Server]:
    running = Server(workspace, workspace.with_name("server.log"))
    running.start()
    RUNNING.append(running)
    yield running
    RUNNING.remove(running)
    running.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Add to a failure what the servers said: the page itself shows no more than that there was an error."""
    report = yield
    if report.failed:
        report.sections += [("what the server said", running.log()[-8000:]) for running in RUNNING]
    return report


@pytest.fixture(scope="session")
def start_server() -> Callable[[Path], AbstractContextManager[Server]]:
    """Give what serves a workspace as long as it is open."""
    return serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "runs") as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS.split())
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page that fails the test if it asks any other machine for anything."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    context.set_default_timeout(60_000)
    opened = context.new_page()
    foreign: list[str] = []
    opened.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url) else None)
    yield opened
    context.close()
    assert not foreign


def is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


@pytest.fixture(scope="session")
def draw() -> Callable[[Callable[[], Any]], Any]:
    """Give what draws widgets on a page that nobody sees, and returns what was made."""

    def drawn(make: Callable[[], Any]) -> Any:
        async def inside() -> Any:  # where no event loop runs, gradio makes one and never closes it
            with gr.Blocks():
                return make()

        with ThreadPoolExecutor(1) as other:  # a browser's event loop may be running in this thread
            return other.submit(asyncio.run, inside()).result()

    return drawn


@pytest.fixture
def reviews(tmp_path: Path) -> Callable[[int], Path]:
    """Return a maker of CSV files with real reviews, half of each class, in columns of their own names."""

    def make(rows: int) -> Path:
        with (HERE / "movie_reviews.csv").open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        chosen = [
            row for label in ("negative", "positive") for row in [r for r in found if r["label"] == label][: rows // 2]
        ]
        path = tmp_path / "my reviews.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["review", "stars"])
            writer.writerows((row["text"], row["label"]) for row in chosen)
        return path

    return make


@pytest.fixture(scope="session")
def answering(tmp_path_factory: pytest.TempPathFactory, save_tiny_model: Callable[[Path, str, Any], Path]) -> Path:
    """Return a workspace with one finished run of a tiny random model for every task, named by the task."""
    workspace = tmp_path_factory.mktemp("answering") / "runs"
    for name in TASKS:
        rows = sample_rows(name, 120)
        finished_run(workspace, name, rows, save_tiny_model(workspace / "models" / name, name, rows))
    return workspace


def finished_run(workspace: Path, task_name: str, rows: list[dict[str, Any]], model: Path) -> RunDir:
    """Make what a training leaves behind, on some rows of the task's sample."""
    from backend.data.prepare import prepare
    from backend.model import as_encoder, load_model, load_tokenizer, save_model

    file = workspace / "data" / f"{task_name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    options: dict[str, Any] = {"name": task_name}
    if "generation" in TASKS[task_name].Options.model_fields:
        options["generation"] = {"max_new_tokens": 12, "no_repeat_ngram_size": 1}  # else one token for ever
    job = parse_job({"name": task_name, "task": options, "model": str(model), "data": {"train": str(file)}})
    run = RunDir.create(workspace, job)
    task, tokenizer = TASKS[task_name], load_tokenizer(job)
    encoder = as_encoder(tokenizer, model)
    prepared = prepare(job, encoder, run.data)
    loaded = load_model(job, task, prepared.labels)
    task.prepare(loaded, prepared.context(encoder))
    save_model(loaded, tokenizer, run.model)
    run.write_report({"validation": {"metrics": {}}, "test": None})
    run.write_status(Status(state="finished", owner=Owner.me()))
    return run


def sample_rows(task_name: str, count: int) -> list[dict[str, Any]]:
    """Return some rows of the first sample of a task, from all over the file, as the file has them."""
    sample = next(sample for sample in SAMPLES.values() if sample.task == task_name)
    path = HERE / sample.file
    source = readers(TASKS[task_name].files)[path.suffix](path, path.name, "utf-8")
    rows = [dict(item.values) for item in source.items if isinstance(item, Record)]
    return rows[:: -(-len(rows) // count)]
