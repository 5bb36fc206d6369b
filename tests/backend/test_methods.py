"""What every way to tune, every objective and every augmentation promises.

A few steps lower the loss; two ranks under ZeRO-2 and ZeRO-3 make the updates of one process; a run that was stopped
ends with the weights of one that was not; what the run leaves behind answers alike in torch and in ONNX.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import forked_ranks
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import argv, short, the_run

from backend.arguments import parse
from backend.augment import AUGMENTATIONS
from backend.objectives import OBJECTIVES
from backend.predict import TorchPredictor
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.spec import field_of
from backend.tuning import TUNINGS
from export.bundle import export_run
from export.predict import OnnxPredictor

EPOCH, STEPS = 7, 35
# Beside its defaults, what a method needs: {EARLIER} is a run that has finished, {ROWS} a file of rows.
NEEDS: dict[str, dict[str, str]] = {
    "objectives.distillation": {"objectives.distillation.teachers": "{EARLIER}"},
    "augment.words": {"augment.words.copies": "0.25"},
    "augment.replay": {"augment.replay.run": "{EARLIER}"},
    "objectives.pseudo-labels": {"objectives.pseudo_labels.unlabelled": "{ROWS}"},
    "objectives.ewc": {"objectives.ewc.run": "{EARLIER}", "model": "{MODEL}"},
}

# How far weights may be apart after so many steps; the springs of EWC blow up what the last digits differ by.
APART = {"objectives.ewc": 1e-3}

QUICK = {"tuning.lora", "objectives.fgm", "augment.words"}  # on ranks without being asked for the slow tests

TABLES: dict[str, Mapping[str, object]] = {"tuning": TUNINGS, "objectives": OBJECTIVES, "augment": AUGMENTATIONS}
# What these need, rows with entities and a model that writes, their own tests give them.
ELSEWHERE = {"augment.mentions", "augment.back-translation"}
METHODS = [f"{group}.{key}" for group, table in TABLES.items() for key in table if f"{group}.{key}" not in ELSEWHERE]
METHODS += ["tuning.lora base_weights=4-bit", "tuning.lora base_weights=8-bit"]


def flags(model: Path, data: Path, workspace: Path, settings: Mapping[str, object]) -> list[str]:
    given: dict[str, object] = {
        **short(model, data, workspace, STEPS),
        "schedule.learning_rate": 3e-3,
        "schedule.warmup": 0,
        **settings,
    }
    return argv(given)


@pytest.fixture(scope="module")
def earlier(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Train a run that methods can learn from."""
    workspace = tmp_path_factory.mktemp("earlier")
    train(parse(flags(tiny_model, tiny_data, workspace, {})), connect())
    return the_run(workspace)


def settings(method: str, earlier: RunDir, rows: Path) -> dict[str, object]:
    """Return the flags that switch a method on."""
    method, _, option = method.partition(" ")
    group, _, key = method.partition(".")
    setting = f"{group}.{field_of(key)}"
    switch: dict[str, object] = {"tuning.name": key} if group == "tuning" else {setting: "on"}
    places = {"EARLIER": str(earlier.path), "MODEL": str(earlier.model), "ROWS": str(rows)}
    needed = {name: value.format(**places) for name, value in NEEDS.get(method, {}).items()}
    if any(name.startswith(f"{setting}.") for name in needed):
        switch = {}  # a setting switches it on, too
    name, _, value = option.partition("=")
    return {**switch, **needed, **({f"{group}.{name}": value} if option else {})}


class Runs:
    """Runs with each method, made when they are asked for: by one process, and by 2 ranks under ZeRO-2 and ZeRO-3."""

    def __init__(self, model: Path, data: Path, earlier: RunDir, folder: Path) -> None:
        self._model, self._data, self._earlier, self._folder = model, data, earlier, folder
        self._alone: dict[str, RunDir] = {}

    def argv(self, method: str, name: str, **more: object) -> list[str]:
        switched = settings(method, self._earlier, self._data)
        return flags(self._model, self._data, self._folder / name, {**switched, **more})

    def alone(self, method: str) -> RunDir:
        if method not in self._alone:
            train(parse(self.argv(method, f"{method}-alone")), connect())
            self._alone[method] = the_run(self._folder / f"{method}-alone")
        return self._alone[method]

    def share_out(self, methods: Sequence[str]) -> dict[tuple[str, int], RunDir]:
        jobs = {(method, stage): f"{method}-{stage}" for method in methods for stage in (2, 3)}
        log = self._folder / "ranks.log"
        argvs = [self.argv(method, name, deepspeed=f"zero{stage}") for (method, stage), name in jobs.items()]
        forked_ranks.finish(forked_ranks.start(2, argvs, log), log)
        return {job: the_run(self._folder / name) for job, name in jobs.items()}


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tiny_data: Path, earlier: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tiny_model, tiny_data, earlier, tmp_path_factory.mktemp("methods"))


@pytest.fixture(scope="module")
def shared_out(request: pytest.FixtureRequest, runs: Runs) -> dict[tuple[str, int], RunDir]:
    """Train with every method that the chosen tests compare ranks in; one start of the ranks serves many jobs."""
    return runs.share_out([one["method"] for one in forked_ranks.asked(request)])


@pytest.mark.parametrize("method", METHODS)
def test_a_few_steps_lower_the_loss(method: str, runs: Runs) -> None:
    losses = [record["loss"] for record in runs.alone(method).metrics() if record["kind"] == "train"]
    assert len(losses) == STEPS
    assert sum(losses[-EPOCH:]) < sum(losses[:EPOCH])


@pytest.mark.parametrize(
    "method", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in METHODS]
)
def test_two_ranks_make_the_updates_of_one_process(
    method: str, runs: Runs, shared_out: dict[tuple[str, int], RunDir]
) -> None:
    alone = runs.alone(method)
    weights = load_file(alone.model / "model.safetensors")
    for stage in (2, 3):
        found = shared_out[method, stage]
        for one, other in zip(alone.metrics(), found.metrics(), strict=True):
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        others = load_file(found.model / "model.safetensors")
        assert weights.keys() == others.keys()
        assert max(float((weights[name] - others[name]).abs().max()) for name in weights) <= APART.get(method, 1e-4)


@pytest.fixture(scope="module")
def dropping(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny model with dropout, for what chance does must go on where it was."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("dropping") / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    method: str, dropping: Path, tiny_data: Path, earlier: RunDir, tmp_path: Path
) -> None:
    model = {} if "model" in NEEDS.get(method, {}) else {"model": dropping}
    short = {"schedule.steps": 4, "schedule.evaluate_every": 4, **settings(method, earlier, tiny_data), **model}
    jobs = [parse(flags(dropping, tiny_data, tmp_path / name, short)) for name in ("whole", "stopped")]
    whole, stopped = (RunDir.create(job.workspace, job.job) for job in jobs)
    train(parse(["--job", str(whole.job_file)]), connect())
    stopped.request_stop(100)
    train(parse(["--job", str(stopped.job_file)]), connect())
    assert stopped.status().step == 1
    train(parse(["--job", str(stopped.job_file), "--resume"]), connect())
    one, other = (load_file(run.model / "model.safetensors") for run in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_that_is_left_answers_alike_in_onnx(method: str, runs: Runs) -> None:
    run = runs.alone(method)
    bundle = export_run(run.path, "fp32", max_drop=1.0)
    rows = [{"text": "good word1 word2"}, {"text": "bad word3"}, {"text": "word4 word5 word6 word7"}]
    for left, right in zip(TorchPredictor(run.path).predict(rows), OnnxPredictor(bundle).predict(rows), strict=True):
        assert left["label"] == right["label"]
        assert left["scores"] == pytest.approx(right["scores"], abs=1e-4)
