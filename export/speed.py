"""What a model answers and how fast, in a process of its own: the thread pools of two engines disturb each other."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from backend.answering import Predictor
from backend.interfaces import Prediction, Row
from export.manifest import NAME
from export.predict import OnnxPredictor

ROUNDS = 3


class Answered(NamedTuple):
    """The answers of a model, and its pace."""

    predictions: list[Prediction]
    rows_per_second: float


def answer(model: Path, rows: Sequence[Row]) -> Answered:
    """Return what a run (with torch) or a bundle (with onnxruntime) answers, and how many rows a second."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_measure, model, rows).result()


def _predictor(model: Path) -> Predictor:
    if (model / NAME).is_file():
        return OnnxPredictor(model)
    from backend.predict import TorchPredictor

    return TorchPredictor(model)


def _measure(model: Path, rows: Sequence[Row]) -> Answered:
    predictor = _predictor(model)
    predictions = predictor.predict(rows)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        predictor.predict(rows)
        seconds.append(time.perf_counter() - began)
    return Answered(predictions, len(rows) / statistics.median(seconds))
