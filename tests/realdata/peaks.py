"""The memory that real trainings reach: of each rank, in each phase, as the operating system counts it."""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from backend import launch
from backend.data.samples import HERE
from backend.rundir import RunDir
from backend.spec import parse_job

POLL_SECONDS = 0.03
ROWS = 48


def long_rows(folder: Path) -> Path:
    """Write rows that are all longer than any length that a job cuts them to."""
    with (HERE / "movie_reviews.csv").open(encoding="utf-8", newline="") as sample:
        found = list(csv.DictReader(sample))[: 30 * ROWS]
    path = folder / "long.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(ROWS):
            writer.writerow([" ".join(row["text"] for row in found[number::ROWS]), found[number]["label"]])
    return path


def peaks(folder: Path, job: dict[str, Any], ranks: int) -> dict[str, list[int]]:
    """Train a job and return the largest resident sets of its ranks in bytes, the largest first, for each phase."""
    run = RunDir.create(folder / "runs", parse_job(job))
    command = launch.command(run, ranks)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = folder / "log.txt"
    seen: dict[str, dict[int, int]] = defaultdict(dict)
    with log.open("wb") as output:
        child = subprocess.Popen(command, cwd=launch.ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        while child.poll() is None:
            state = run.status().state if run.status_file.is_file() else "queued"
            for process in _trainers(child.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    held = process.memory_info().rss
                    seen[state][process.pid] = max(held, seen[state].get(process.pid, 0))
            time.sleep(POLL_SECONDS)
    assert child.returncode == 0, log.read_text(encoding="utf-8")[-3000:]
    return {state: sorted(held.values(), reverse=True)[:ranks] for state, held in seen.items()}


def _trainers(pid: int) -> list[psutil.Process]:
    """Return the processes below one, and itself, that train."""
    try:
        parent = psutil.Process(pid)
        return [one for one in (parent, *parent.children(recursive=True)) if _trains(one)]
    except psutil.NoSuchProcess:
        return []


def _trains(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        words = process.cmdline()
        return any(word.endswith("train.py") for word in words) and "deepspeed.launcher" not in " ".join(words)
    return False
