"""Speed of training on the CPU against the common recipe and against transformers' Trainer.

    python tests/bench/training.py

All train the same model on the same rows, encoded beforehand, in batches of 32 cut at 128 tokens. Each contestant is a
program of its own, they take turns, and the median counts. The first epoch warms up and is left out; the others are
timed as a whole, with whatever happens between their steps, but without evaluation and saving.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from backend.data.plan import epoch_batches, share
from backend.data.prepare import Split, load_prepared
from backend.launch import command
from backend.rundir import RunDir
from backend.sources import SAMPLE_MODEL, model_source
from backend.tasks import TASKS

TURNS, EPOCHS, ROWS = 3, 2, 640  # rows of training
BATCH, LENGTH, SEED = 32, 128, 42
RECIPE, TRAINER = "common recipe", "transformers Trainer"
TASK = TASKS["text-classification"]
CPU_ONLY = {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "TOKENIZERS_PARALLELISM": "false"}
AIMS = {
    f"1 process fp32 / {RECIPE}": 4.0,
    f"1 process fp32 / {TRAINER}": 1.5,
    "padded / real tokens": 1.1,
}

Sizes = list[tuple[int, int]]  # real and padded tokens of every batch


def measure(report: Callable[[str], None] = print) -> dict[str, Any]:
    """Train with every contestant in turn and return rows per second, tokens and the ratios."""
    skipped = {} if importlib.util.find_spec("accelerate") else {TRAINER: "skipped: pip install accelerate"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        precisions = dict.fromkeys(["fp32", _run(["precision"])])
        ours = {_name(ranks, precision): (ranks, precision) for ranks in (1, 2) for precision in precisions}
        contestants = [*ours, *(other for other in (RECIPE, TRAINER) if other not in skipped)]
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
        for turn in range(TURNS):
            for contestant in contestants:
                if contestant in ours:
                    found = train_ours(folder / f"{contestant} {turn}", *ours[contestant])
                else:
                    data = next((folder / f"{contestants[0]} 0").glob("*/data"))
                    found = _timed(**json.loads(_run([contestant, str(data)])))
                taken[contestant].append(found)
                report(f"turn {turn + 1} of {TURNS}: {contestant}: {found['rows_per_second']:.1f} rows per second")
    figures = {
        contestant: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        for contestant, turns in taken.items()
    }
    return {
        "rows": ROWS,
        "cores": cores(),
        "figures": figures,
        "skipped": skipped,
        "ratios": _ratios({contestant: each["rows_per_second"] for contestant, each in figures.items()}),
        "padding": max(figures[contestant]["padding"] for contestant in ours),
    }


def tables(found: Mapping[str, Any]) -> list[Table]:
    """Return what `measure` found, ready to print."""
    title = f"Training on {found['cores']} CPU cores: {found['rows']} rows an epoch, batches of {BATCH}"
    speed = Table(title=title)
    speed.add_column("")
    for column in ("rows/s", "ms a step", "of it records", "padded / real tokens"):
        speed.add_column(column, justify="right")
    for contestant, each in found["figures"].items():
        records = f"{each['records']:.1f}" if "records" in each else ""
        speed.add_row(
            contestant, f"{each['rows_per_second']:.1f}", f"{each['step']:.0f}", records, f"{each['padding']:.2f}"
        )
    for contestant, reason in found["skipped"].items():
        speed.add_row(contestant, reason)
    ratios = Table("times as fast", "", "aim", "")
    for name, ratio in found["ratios"].items():
        aim = AIMS.get(name)
        ratios.add_row(name, f"{ratio:.2f}", *((f">= {aim:g}", verdict(met=ratio >= aim)) if aim else ("", "")))
    aim = AIMS["padded / real tokens"]
    met = found["padding"] <= aim
    ratios.add_row("padded / real tokens, the most of ours", f"{found['padding']:.2f}", f"<= {aim:g}", verdict(met=met))
    return [speed, ratios]


def verdict(*, met: bool) -> str:
    """Return what is said of an aim."""
    return "met" if met else "missed"


def _name(ranks: int, precision: str) -> str:
    return f"{ranks} process{'es ZeRO-2' if ranks > 1 else ''} {precision}"


def _ratios(speeds: Mapping[str, float]) -> dict[str, float]:
    pairs = [(_name(1, "fp32"), RECIPE), (_name(1, "fp32"), TRAINER), (_name(2, "fp32"), _name(1, "fp32"))]
    if _name(1, "bf16") in speeds:
        pairs += [(_name(1, "bf16"), _name(1, "fp32")), (_name(2, "bf16"), _name(1, "bf16"))]
        pairs += [(_name(1, "bf16"), RECIPE), (_name(1, "bf16"), TRAINER)]
    return {f"{fast} / {slow}": speeds[fast] / speeds[slow] for fast, slow in pairs if slow in speeds}


def train_ours(workspace: Path, ranks: int, precision: str, **parts: Mapping[str, Any] | str) -> dict[str, float]:
    """Train with this project's own program; `parts` of the job stand in for those of the comparison."""
    workspace.mkdir()
    job = {
        "model": SAMPLE_MODEL,
        "task": {"max_length": LENGTH},
        "data": {"train": "sample:movie-reviews", "max_rows": ROWS * 5 // 4},  # a fifth validates and tests
        "schedule": {"epochs": EPOCHS, "batch_size": BATCH, "evaluate_every": 1_000_000},
        "precision": precision,
        "seed": SEED,
        **parts,
    }
    file = workspace / "speed.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    _finished([*command(file, ranks), "--workspace", str(workspace)])
    run = RunDir(next(workspace.glob("*/job.json")).parent)
    lengths = Split.open(run.data, "train").lengths
    schedule = run.job.schedule
    sizes: Sizes = []
    for batch in chain(*(epoch_batches(lengths, schedule.batch_size, SEED, epoch) for epoch in range(EPOCHS))):
        shares = [lengths[part] for rank in range(ranks) for part in share(batch, rank, ranks, 1)]
        sizes.append((int(lengths[batch].sum()), sum(len(part) * int(part.max()) for part in shares)))
    moments = _moments(run)
    found = _timed(len(lengths), sizes, moments)
    within = [schedule.batch_size / record["rows_per_second"] for record in run.metrics() if record["kind"] == "train"]
    # What is written down after each step: the time between two records that is in neither of them.
    records = found["step"] - 1000 * statistics.fmean(within[len(sizes) // EPOCHS :])
    return {**found, "records": records}


def _moments(run: RunDir) -> list[float]:
    """Return when each step was written down."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0})
    events.Reload()
    return [event.wall_time for event in events.Scalars("train/loss")]


def _timed(rows: int, sizes: Sequence[Sequence[int]], moments: Sequence[float]) -> dict[str, float]:
    """Return the figures of all epochs but the first, from the end of every step."""
    if len(moments) != len(sizes):
        raise RuntimeError(f"{len(moments)} steps were timed, but {len(sizes)} batches counted")
    first = len(sizes) // EPOCHS
    seconds = moments[-1] - moments[first - 1]
    real, padded = (sum(size[place] for size in sizes[first:]) for place in (0, 1))
    return {
        "rows_per_second": rows * (EPOCHS - 1) / seconds,
        "step": 1000 * seconds / (len(sizes) - first),
        "padding": padded / real,
    }


def train_recipe(data: Path) -> dict[str, Any]:
    """Train as many scripts do: every text padded to the full length, AdamW as it comes."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    features = _features(data)
    inputs = [name for name in features[0] if name not in TASK.targets]
    padded = {name: torch.tensor([_to_length(row[name]) for row in features]) for name in inputs}
    labels = torch.tensor([row["labels"] for row in features])
    loader = DataLoader(TensorDataset(*padded.values(), labels), batch_size=BATCH, shuffle=True)
    model = _model(data)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    moments, sizes = [], []
    for _ in range(EPOCHS):
        for *tensors, target in loader:
            batch = dict(zip(inputs, tensors, strict=True))
            model(**batch, labels=target).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            sizes.append((int(batch["attention_mask"].sum()), batch["attention_mask"].numel()))
            moments.append(time.time())
    return {"rows": len(features), "sizes": sizes, "moments": moments}


def train_trainer(data: Path) -> dict[str, Any]:
    """Train with transformers' Trainer as it comes, each batch padded to its longest text."""
    import transformers

    moments: list[float] = []
    sizes: Sizes = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            moments.append(time.time())

    tokenizer = transformers.AutoTokenizer.from_pretrained(model_source(SAMPLE_MODEL))
    collator = transformers.DataCollatorWithPadding(tokenizer)

    def collate(rows: list[dict[str, Any]]) -> Any:
        batch = collator(rows)
        sizes.append((int(batch["attention_mask"].sum()), batch["attention_mask"].numel()))
        return batch

    features = _features(data)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=EPOCHS,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            _model(data), arguments, data_collator=collate, train_dataset=features, callbacks=[Clock()]
        )
        trainer.train()
    return {"rows": len(features), "sizes": sizes, "moments": moments}


def _features(data: Path) -> list[dict[str, Any]]:
    split = Split.open(data, "train")
    return [{**row, "labels": row["labels"][0]} for row in split.features(range(len(split)))]


def _to_length(values: Sequence[int]) -> list[int]:
    """Pad with 0, which is the model's padding token too."""
    return [*values, *[0] * (LENGTH - len(values))]


def _model(data: Path) -> Any:
    import torch
    import transformers

    torch.set_num_threads(cores())
    torch.manual_seed(SEED)
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        model_source(SAMPLE_MODEL), num_labels=len(load_prepared(data).labels), dtype=torch.float32
    )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _run(arguments: list[str]) -> str:
    """Do a step in a process of its own; its last line is the answer."""
    return _finished([sys.executable, __file__, *arguments]).splitlines()[-1]


def _finished(argv: list[str]) -> str:
    """Run a program to its end and return what it printed. DeepSpeed looks for ninja on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    environment = {**inherited, **CPU_ONLY, "PATH": path}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{argv} ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def _answers(arguments: list[str]) -> Iterator[str]:
    if arguments[0] == "precision":
        from backend.precision import choose

        yield choose("auto")[0]
    else:
        train = {RECIPE: train_recipe, TRAINER: train_trainer}[arguments[0]]
        yield json.dumps(train(Path(arguments[1])))


def main(arguments: list[str]) -> None:
    """Measure and print; with arguments: one step of it, in a process of its own."""
    if not arguments:
        console = Console()
        for table in tables(measure(console.print)):
            console.print(table)
    else:
        sys.stdout.write("\n".join(_answers(arguments)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
