"""What a training holds in memory does not grow with the rows: they stay on the disk."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Anonymous memory: pages of a mapped file belong to the system, which takes them back when it needs them.
WATCHED = """
import json, sys, threading, time
from backend.arguments import parse
from backend.data import prepare
from backend.rank import connect
from backend import session

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024

peaks = {"prepare": 0.0, "train": 0.0}
phase = "prepare"

def watch():
    while True:
        peaks[phase] = max(peaks[phase], anonymous())
        time.sleep(0.02)

threading.Thread(target=watch, daemon=True).start()
prepared = session.prepare

def timed(*arguments):
    global phase
    began = time.monotonic()
    result = prepared(*arguments)
    peaks["seconds"] = time.monotonic() - began
    phase = "train"
    return result

session.prepare = timed
session.train(parse(sys.argv[1:]), connect())
print(json.dumps(peaks))
"""


def write_sentences(path: Path, rows: int) -> Path:
    """Write tagged sentences of 4 to 40 words, each of them new."""
    chance = random.Random(0)  # noqa: S311 - no secret
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            for _ in range(chance.randint(4, 40)):
                number = chance.randrange(40)
                file.write(f"word{number}\t{'B-EVEN' if number % 2 == 0 else 'O'}\n")
            file.write("\n")
    return path


def watched(model: Path, train: Path, held_out: Path, workspace: Path) -> dict[str, float]:
    """Train a hundred steps in a process of its own and return its peaks of memory in MiB."""
    flags = {
        "model": model,
        "data.train": train,
        "data.validation": held_out,
        "data.test": held_out,
        "workspace": workspace,
        "task.name": "token-classification",
        "task.max_length": 64,
        "schedule.steps": 100,
        "schedule.evaluate_every": 100,
        "precision": "fp32",
    }
    argv = [part for key, value in flags.items() for part in (f"--{key}", str(value))]
    done = subprocess.run([sys.executable, "-c", WATCHED, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    peaks: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return peaks


def test_ten_times_the_rows_need_no_more_memory(tiny_model: Path, tmp_path: Path) -> None:
    held_out = write_sentences(tmp_path / "held-out.conll", 500)
    peaks = {
        rows: watched(tiny_model, write_sentences(tmp_path / f"{rows}.conll", rows), held_out, tmp_path / str(rows))
        for rows in (5_000, 50_000)
    }
    print(peaks)  # noqa: T201 - the figures, for who wants to see them
    assert peaks[50_000]["train"] <= peaks[5_000]["train"] * 1.05 + 10
