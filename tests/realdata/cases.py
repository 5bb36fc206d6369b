"""What each task learns from real data with which real small model, in English and in Chinese, and how well.

`python tests/realdata/cases.py [NAME ...]` trains the named cases and prints their figures.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from backend.arguments import parse
from backend.data import samples
from backend.data.samples import SAMPLES
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.sources import SAMPLE_MODEL

MINILM, E5, SMOLLM2 = "", "e5-zh-en", "smollm2"  # of the samples; folders of .data/
ROOT = Path(__file__).resolve().parents[2]
LABELS, ENTITIES, MASKS = "text-classification", "token-classification", "masked-language-modelling"
TEXTS_OF = "texts-of:"  # before the name of a tagged sample: its sentences without the tags


class Case(NamedTuple):
    """One training: what it reads, and what the test rows must show."""

    model: str
    data: str  # the name of a sample, which says how it is learnt; or the task and where texts are
    metric: str
    baseline: float  # of the largest class, of chance, or of the model as it is before
    bound: float  # that the test rows must reach; below the baseline, lower is better
    settings: dict[str, Any]

    @property
    def task(self) -> str:
        """The task: that of the sample, or the one that is named with the file."""
        first, _, file = self.data.partition(" ")
        return first if file else SAMPLES[first].task


ONCE = {"schedule.evaluate_every": 10_000}  # at the end alone, for an evaluation may take longer than an epoch
SHORT = {"task.max_length": 96, **ONCE}
QUESTIONS = {"task.max_length": 192, "data.test_fraction": 0.2, **ONCE}
WRITTEN = {"task.max_length": 96, "task.max_target_length": 32, "task.generation.max_new_tokens": 24, **ONCE}
CHAT = {"task.max_length": 256, "schedule.batch_size": 4, "precision": "fp32", **ONCE}
REVIEWS = {**SHORT, "data.max_rows": 1600, "schedule.epochs": 2, "schedule.learning_rate": 1e-4}
TAGS = {**SHORT, "schedule.epochs": 4, "schedule.batch_size": 16, "schedule.learning_rate": 3e-4}
# The twelve layers of e5 learn no tags at a rate that is right for the six of MiniLM.
SLOW = {"schedule.batch_size": 8, "schedule.learning_rate": 1e-4, "precision": "fp32", **ONCE}
MSRA = {**SLOW, "task.max_length": 64, "data.max_rows": 1600, "schedule.epochs": 3, "task.broken_tags": "repair"}
COMMANDS = {**SLOW, "task.max_length": 64, "schedule.batch_size": 4, "schedule.epochs": 10}
COMMANDS["schedule.learning_rate"] = 2e-4

CASES = {
    "classification-en": Case(MINILM, "movie-reviews", "accuracy", 0.53, 0.70, {**SHORT, "data.max_rows": 2000}),
    "classification-zh": Case(E5, f"{LABELS} sentiment_zh.csv", "accuracy", 0.53, 0.70, REVIEWS),
    "pairs-en": Case(MINILM, "faq-pairs", "accuracy", 0.50, 0.62, {**SHORT, "precision": "fp32"}),
    "prompt-en": Case(MINILM, "movie-reviews-prompt", "accuracy", 0.53, 0.70, {**SHORT, "data.max_rows": 2000}),
    "multi-label-en": Case(MINILM, "paper-sentences", "f1_micro", 0.50, 0.62, SHORT),
    "scoring-en": Case(MINILM, "tweet-scores", "pearson", 0.0, 0.80, SHORT),
    "entities-en": Case(MINILM, f"{ENTITIES} ner_en.conll", "f1", 0.0, 0.30, TAGS),
    "entities-zh": Case(E5, f"{ENTITIES} ner_zh_train.conll", "f1", 0.0, 0.40, MSRA),
    "slots-zh": Case(E5, "ner-zh", "f1", 0.0, 0.70, {**SLOW, "task.max_length": 48}),
    "relations-en": Case(MINILM, "relations", "f1_micro", 0.17, 0.85, SHORT),
    "relations-zh": Case(E5, "relations-zh", "f1_micro", 0.17, 0.85, SHORT),
    "answers-en": Case(MINILM, "qa", "f1", 0.15, 0.35, QUESTIONS),
    "answers-zh": Case(E5, "qa-zh", "f1", 0.15, 0.35, QUESTIONS),
    "translation-en-zh": Case(E5, "translation-en-zh", "bleu", 0.0, 3.0, WRITTEN),
    "summarization-en": Case(MINILM, "summarization", "rougeL", 0.02, 0.08, {**WRITTEN, "task.max_target_length": 48}),
    "dialogue-en": Case(SMOLLM2, "dialogue", "perplexity", 87.9, 70.0, CHAT),
    "dialogue-zh": Case(SMOLLM2, "dialogue-zh", "perplexity", 17.3, 14.0, CHAT),
    "masks-en": Case(MINILM, "novel", "masked_accuracy", 0.06, 0.20, SHORT),
    "masks-zh": Case(E5, f"{MASKS} {TEXTS_OF}ner-zh", "masked_accuracy", 0.04, 0.15, COMMANDS),
    "writing-en": Case(SMOLLM2, "novel-causal", "perplexity", 56.0, 48.0, {**CHAT, "data.max_rows": 120}),
    "writing-zh": Case(SMOLLM2, "poems-causal-zh", "perplexity", 58.5, 45.0, {**CHAT, "data.max_rows": 120}),
}


def texts_of(sample: str, folder: Path) -> Path:
    """Write the sentences of a sample in columns, a word and its tag a line, as a plain text."""
    blocks = (Path(samples.__file__).parent / SAMPLES[sample].file).read_text(encoding="utf-8").split("\n\n")
    sentences = ("".join(line.split()[0] for line in block.splitlines() if line.strip()) for block in blocks)
    file = folder / f"{sample}.txt"
    file.write_text("\n".join(dict.fromkeys(filter(None, sentences))), encoding="utf-8")
    return file


def trained(case: Case, folder: Path, real_data: Callable[[str], Path]) -> dict[str, float]:
    """Train a case and return the metrics of its test rows."""
    task, _, file = case.data.partition(" ")
    source = texts_of(file.removeprefix(TEXTS_OF), folder) if file.startswith(TEXTS_OF) else file and real_data(file)
    flags: dict[str, Any] = {"task.name": task, "data.train": source} if file else {"sample": case.data}
    flags["model"] = real_data(case.model) if case.model else SAMPLE_MODEL
    argv = [part for key, value in {**flags, **case.settings}.items() for part in (f"--{key}", str(value))]
    run = RunDir.create(folder, parse(argv).job)
    train(parse(["--job", str(run.job_file)]), connect())
    metrics: dict[str, float] = (run.report() or {})["test"]["metrics"]
    return metrics


def main() -> None:
    """Train cases and write a line of a table for each: what it had to reach, what it reached, how long it took."""
    for name in sys.argv[1:] or CASES:
        case, began = CASES[name], time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            metrics = trained(case, Path(folder), lambda file: ROOT / ".data" / file)
        figures = (case.metric, case.baseline, case.bound, f"{metrics[case.metric]:.4f}")
        sys.stdout.write(f"| {name} | {' | '.join(map(str, figures))} | {time.monotonic() - began:.0f} s |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
