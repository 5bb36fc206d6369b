"""What the ways to tune are for: MiniLM on sentences of film reviews, each beside full tuning, over three seeds.

`python tests/realdata/worth.py [--seeds 0,1,2] [NAME ...]` trains what the named figures need and prints a table.

Every training of a seed has the same rows. Accuracies are of 1,500 rows that no training sees; flips are the share of
these whose answer changes when one word in seven is misspelt.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from backend.arguments import parse
from backend.augment.words import Words
from backend.data import samples
from backend.data.prepared import load_prepared
from backend.interfaces import Row
from backend.methods import Material
from backend.model import tuned_model
from backend.predict import TorchPredictor
from backend.pruning.pruning import prune_run, recovery
from backend.pruning.shares import Shares
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.sources import SAMPLE_MODEL
from backend.spec import JobSpec, parse_job
from backend.tasks import TASKS
from export.bundle import export_run
from export.predict import OnnxPredictor

SEEDS = (0, 1, 2)
TASK = "text-classification"
ROWS, VALIDATION, TEST, FEW, TWEETS_TEST = 1600, 300, 1500, 200, 150
FILMS, TWEETS = ("negative", "positive"), ("complaint", "praise")
CLEAR = 0.5  # a tweet whose mean score is nearer to 0 is neither
SAMPLES = Path(samples.__file__).parent
BUDGET = {"epochs": 2, "learning_rate": 1e-4, "batch_size": 16}
TYPOS = Words.Options(copies=1, insert=0, swap=0, delete=0, typo=0.15)
TURNS = 5


class Trainings:
    """The trainings of one seed; each is made when it is first asked for."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self._made: dict[str, RunDir] = {}
        films, tweets = _films(), _tweets()
        self.tests = {"films": films[:TEST], "tweets": tweets[:TWEETS_TEST]}
        pool = films[TEST + VALIDATION :]
        order = np.random.default_rng(seed).permutation(len(pool))
        pool = [pool[number] for number in order]
        self._write("validation", films[TEST : TEST + VALIDATION])
        self._write("films", pool[:ROWS])
        self._write("few", pool[:FEW])
        self._write("unlabelled", [{"text": row["text"]} for row in pool[FEW:]])
        self._write("tweets", tweets[TWEETS_TEST:])

    def file(self, name: str) -> str:
        """Return the path of one of the files."""
        return str(self.folder / f"{name}.csv")

    def _write(self, name: str, rows: Sequence[Row]) -> None:
        with Path(self.file(name)).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def run(self, rows: str = "films", **settings: Any) -> RunDir:
        """Train, or return what was trained like this before."""
        data: dict[str, Any] = {"train": self.file(rows), "test_fraction": 0}
        if rows != "tweets":
            data["validation"] = self.file("validation")
        job: dict[str, Any] = {"model": SAMPLE_MODEL, "data": data, "seed": self.seed, "precision": "fp32", **settings}
        job["task"] = {"name": TASK, "max_length": 64, **settings.get("task", {})}
        job["schedule"] = {**BUDGET, "evaluate_every": 10_000, **settings.get("schedule", {})}
        return self.trained(parse_job(job))

    def trained(self, job: JobSpec) -> RunDir:
        """Train a job, or return the run that was made of it before."""
        key = job.model_dump_json()
        if key not in self._made:
            run = RunDir.create(self.folder / "runs", job)
            train(parse(["--job", str(run.job_file)]), connect())
            self._made[key] = run
        return self._made[key]

    def answers(self, run: RunDir, rows: Sequence[Row]) -> list[str]:
        """Return the class that a run gives each row."""
        asked = [{"text": row["text"]} for row in rows]
        return [answer["label"] for answer in TorchPredictor(run.path).predict(asked)]

    def accuracy(self, run: RunDir, test: str = "films") -> float:
        """Return the share of test rows that a run gives the right class."""
        rows = self.tests[test]
        return fmean(said == row["label"] for said, row in zip(self.answers(run, rows), rows, strict=True))

    def flips(self, run: RunDir) -> float:
        """Return the share of test rows whose answer changes with slips of the keyboard."""
        rows = self.tests["films"]
        context = load_prepared(run.data).context(TorchPredictor(run.path).context.tokenizer)
        material = Material(TASKS[TASK], context, np.random.default_rng(7), SAMPLE_MODEL, "main")
        misspelt = [next(Words().grow([row], TYPOS, material), row) for row in rows]
        pairs = zip(self.answers(run, rows), self.answers(run, misspelt), strict=True)
        return fmean(one != other for one, other in pairs)


def _films() -> list[Row]:
    return _shuffled({"text": row["text"], "label": row["label"]} for row in _sample("movie_reviews.csv"))


def _tweets() -> list[Row]:
    """Return the tweets that are clearly for or against something."""
    scored = [(row["text"], float(row["score"])) for row in _sample("tweet_scores.csv")]
    return _shuffled({"text": text, "label": TWEETS[score > 0]} for text, score in scored if abs(score) > CLEAR)


def _sample(name: str) -> list[dict[str, str]]:
    with (SAMPLES / name).open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def _shuffled(rows: Iterable[Row]) -> list[Row]:
    """Return rows in an order that is the same for every seed."""
    found = list(rows)
    return [found[number] for number in np.random.default_rng(11).permutation(len(found))]


def full(made: Trainings) -> dict[str, float]:
    """Train all weights."""
    run = made.run()
    return {"accuracy": made.accuracy(run), "flips": made.flips(run)}


def lora(made: Trainings) -> dict[str, float]:
    """Train the matrices of LoRA and the head."""
    run = made.run(tuning={"name": "lora", "targets": "all-linear"}, schedule={"learning_rate": 1e-3})
    weights = list(tuned_model(run.job, load_prepared(run.data)).parameters())
    trained = sum(each.numel() for each in weights if each.requires_grad)
    return {"accuracy": made.accuracy(run), "trained": trained / sum(each.numel() for each in weights)}


def _steadier(**method: Any) -> Callable[[Trainings], dict[str, float]]:
    def measured(made: Trainings) -> dict[str, float]:
        run = made.run(**method)
        return {"accuracy": made.accuracy(run), "flips": made.flips(run)}

    return measured


def distillation(made: Trainings) -> dict[str, float]:
    """Train three of six layers: those of the teacher with and without its answers, and those of the pretrained."""
    teacher = made.run()
    student: dict[str, Any] = {"model": str(teacher.model), "layers": [0, 2, 4], "schedule": {"epochs": 3}}
    taught = made.run(**student, objectives={"distillation": {"teachers": [str(teacher.path)]}})
    alone, pretrained = made.run(**student), made.run(layers=student["layers"], schedule=student["schedule"])
    reached = made.accuracy(taught)
    found = {"accuracy": reached, "kept": reached / made.accuracy(teacher)}
    return found | {"alone": made.accuracy(alone), "pretrained": made.accuracy(pretrained)}


def pseudo_labels(made: Trainings) -> dict[str, float]:
    """Train on 200 rows, and on these with the others as rows without classes."""
    budget = {"epochs": 12}
    extra = {"pseudo_labels": {"unlabelled": made.file("unlabelled")}}
    few, more = made.run("few", schedule=budget), made.run("few", schedule=budget, objectives=extra)
    return {"accuracy": made.accuracy(more), "supervised": made.accuracy(few)}


def continual(made: Trainings) -> dict[str, float]:
    """Train on from films to classes of tweets: as it is, with earlier rows, and with EWC."""
    task = {"labels": [*FILMS, *TWEETS]}
    old = made.run(task=task)
    new: dict[str, Any] = {"rows": "tweets", "task": task, "model": str(old.model), "schedule": {"epochs": 6}}
    runs = {
        "plain": made.run(**new),
        "replay": made.run(**new, augment={"replay": {"run": str(old.path), "copies": 0.5}}),
        "ewc": made.run(**new, objectives={"ewc": {"run": str(old.path)}}),
    }
    before = made.accuracy(old)
    figures = {f"{name} kept": made.accuracy(run) / before for name, run in runs.items()}
    return figures | {f"{name} new": made.accuracy(run, "tweets") for name, run in runs.items()}


def pruning(made: Trainings) -> dict[str, float]:
    """Remove 40% of the heads and neurons, and train one more epoch."""
    run = made.run()
    prune_run(run.path, Shares(heads=0.4, neurons=0.4), lambda _: None)
    smaller = made.trained(recovery(run, 1))
    bundles = [export_run(each.path, "fp32") for each in (run, smaller)]
    sizes = [sum(file.stat().st_size for file in bundle.glob("*.onnx*")) for bundle in bundles]
    before, after = _seconds([OnnxPredictor(bundle) for bundle in bundles], made.tests["films"][:300])
    return {"accuracy": made.accuracy(smaller), "size": sizes[1] / sizes[0], "speed": before / after}


def _seconds(predictors: Sequence[OnnxPredictor], rows: Sequence[Row]) -> list[float]:
    """Return how long each takes to answer the rows, in turns: the median."""
    taken: list[list[float]] = [[] for _ in predictors]
    for _ in range(TURNS):
        for times, predictor in zip(taken, predictors, strict=True):
            began = time.perf_counter()
            predictor.predict([{"text": row["text"]} for row in rows])
            times.append(time.perf_counter() - began)
    return [median(times) for times in taken]


FIGURES: dict[str, Callable[[Trainings], dict[str, float]]] = {
    "full": full,
    "lora": lora,
    "fgm": _steadier(objectives={"fgm": {}}),
    "r-drop": _steadier(objectives={"r_drop": {}}),
    "typos": _steadier(augment={"words": {"copies": 1, "insert": 0, "swap": 0, "delete": 0, "typo": 0.15}}),
    "distillation": distillation,
    "pseudo-labels": pseudo_labels,
    "continual": continual,
    "pruning": pruning,
}


def main() -> None:
    """Print a row of figures for each way to tune and seed, and the means."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    reader.add_argument("--seeds", type=lambda text: [*map(int, text.split(","))], default=SEEDS)
    given = reader.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for seed in given.seeds:
            made = Trainings(Path(folder), seed)
            for name in given.names or FIGURES:
                began = time.monotonic()
                figures = ", ".join(f"{key} {value:.4f}" for key, value in FIGURES[name](made).items())
                sys.stdout.write(f"| {seed} | {name} | {figures} | {time.monotonic() - began:.0f} s |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
