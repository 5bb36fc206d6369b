"""How fast a model answers, measured in a process of its own: the thread pools of two engines disturb each other."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from export.interfaces import Predictor
from export.manifest import NAME
from export.runtime import OnnxPredictor

ROUNDS = 3


def rows_per_second(model: Path, rows: Sequence[dict[str, Any]]) -> float:
    """Return how many rows a run (with torch) or a bundle (with onnxruntime) answers in a second on this machine."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_measure, model, rows).result()


def _predictor(model: Path) -> Predictor:
    if (model / NAME).is_file():
        return OnnxPredictor(model)
    from backend.predict import TorchPredictor

    return TorchPredictor(model)


def _measure(model: Path, rows: Sequence[dict[str, Any]]) -> float:
    predictor = _predictor(model)
    predictor.predict(rows[:8])
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        predictor.predict(rows)
        seconds.append(time.perf_counter() - began)
    return len(rows) / statistics.median(seconds)
