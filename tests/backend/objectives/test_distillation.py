"""What a student learns is what its teachers say, whatever order their classes are in and however they are asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import argv, losses
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from backend.arguments import parse
from backend.data.batching import pad
from backend.data.prepared import Split
from backend.errors import UserError
from backend.objectives.distillation import soft_loss
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.teachers import Answers

STEPS = 3
# The tasks whose answers are kept in ways of their own; the others are tried with the slow tests.
FEW = ("text-scoring", "question-answering", "causal-language-modelling")
TAGS = "token-classification"


def flags(task: str, model: Path, data: Path, workspace: Path, **settings: object) -> list[str]:
    given: dict[str, object] = {
        "task.name": task,
        "task.max_length": 32,
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "schedule.steps": STEPS,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 1e-2,
        "schedule.warmup": 0,
        "schedule.evaluate_every": STEPS,
        "precision": "fp32",
    }
    return argv(given, **settings)


def trained(task: str, model: Path, data: Path, workspace: Path, **settings: object) -> RunDir:
    train(parse(flags(task, model, data, workspace, **settings)), connect())
    (run,) = RunDir.all(workspace)
    return run


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "text-classification": lambda n: {"text": words(n), "label": ["a", "b", "c"][n % 3]},
    "multi-label-classification": lambda n: {"text": words(n), "labels": ["a", "b", "c"][: n % 4]},
    "text-scoring": lambda n: {"text": words(n), "score": n % 7},
    TAGS: lambda n: {"tokens": words(n).split(), "tags": ["B-X" if k % 2 else "O" for k in range(1 + n % 5)]},
    "question-answering": lambda n: {
        "question": "which",
        "context": words(n),
        "answers": {"text": [words(n).split()[0]], "answer_start": [0]},
    },
    "translation": lambda n: {"source": words(n), "target": words(n + 1)},
    "masked-language-modelling": lambda n: {"text": words(n + 2)},
    "causal-language-modelling": lambda n: {"text": words(n + 2)},
}


def words(number: int) -> str:
    return " ".join(f"word{(number + place) % 9}" for place in range(1 + number % 5))


def without_dropout(model: Path) -> Path:
    file = model / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    rates = {name: 0.0 for name in config if "drop" in name and isinstance(config[name], float)}
    file.write_text(json.dumps({**config, **rates}), encoding="utf-8")
    return model


@pytest.fixture(scope="module")
def places(save_tiny_model: Callable[[Path, str, Any], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the function that makes the model and the rows of a task."""
    folder = tmp_path_factory.mktemp("distillation")
    made: dict[str, tuple[Path, Path]] = {}

    def of(task: str) -> tuple[Path, Path]:
        if task not in made:
            rows = [ROWS[task](number) for number in range(30)]
            data = folder / f"{task}.jsonl"
            data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            made[task] = without_dropout(save_tiny_model(folder / task, task, rows)), data
        return made[task]

    return of


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_the_divergence_from_the_teacher(temperature: float) -> None:
    student, teacher = torch.randn(5, 4), torch.randn(5, 4)
    wanted = torch.softmax(teacher / temperature, dim=-1)
    kept = wanted.topk(4)
    found = soft_loss(student, Answers(kept.indices, kept.values), temperature)
    expected = functional.kl_div(torch.log_softmax(student / temperature, -1), wanted, reduction="sum") * temperature**2
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_classes_that_are_not_kept_count_as_one() -> None:
    student, teacher = torch.randn(5, 9, requires_grad=True), torch.randn(5, 9)
    wanted, kept = torch.softmax(teacher, -1), torch.softmax(teacher, -1).topk(3)
    found = soft_loss(student, Answers(kept.indices, kept.values), 1.0)

    def merged(chances: Tensor) -> Tensor:
        some = chances.gather(1, kept.indices)
        return torch.cat([some, 1 - some.sum(dim=1, keepdim=True)], dim=1)

    expected = functional.kl_div(merged(torch.softmax(student, -1)).log(), merged(wanted), reduction="sum")
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-5)


def test_no_class_without_a_chance_makes_a_number_of_nothing() -> None:
    lowest = torch.finfo(torch.float32).min
    student = torch.tensor([[1.0, lowest, lowest], [2.0, 1.0, lowest]], requires_grad=True)
    answers = Answers(torch.tensor([[0, 1], [0, 1]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    loss = soft_loss(student, answers, 2.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(gradient).all()
    assert gradient[0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("task", [task if task in FEW else pytest.param(task, marks=pytest.mark.slow) for task in ROWS])
def test_a_student_that_answers_like_its_teacher_has_nothing_to_learn(task: str, places: Any, tmp_path: Path) -> None:
    model, data = places(task)
    teacher = trained(task, model, data, tmp_path / "teacher")
    student = trained(
        task,
        teacher.model,
        data,
        tmp_path / "student",
        objectives__distillation__teachers=teacher.path,
        objectives__distillation__weight=1,
        objectives__distillation__kept=40,
        schedule__learning_rate=1e-9,
    )
    assert losses(student) == pytest.approx(
        [0.0] * STEPS, abs=0.02 if "modelling" in task or task == "translation" else 1e-4
    )


def student_of(teachers: str, model: Path, data: Path, workspace: Path, **settings: object) -> RunDir:
    return trained(
        "text-classification", model, data, workspace, objectives__distillation__teachers=teachers, **settings
    )


@pytest.fixture(scope="module")
def teacher(places: Any, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Train a teacher."""
    return trained("text-classification", *places("text-classification"), tmp_path_factory.mktemp("teacher"))


def test_classes_are_known_by_name_wherever_they_stand(teacher: RunDir, places: Any, tmp_path: Path) -> None:
    model, data = places("text-classification")
    turned = shutil.copytree(teacher.model, tmp_path / "turned")
    config = json.loads((turned / "config.json").read_text(encoding="utf-8"))
    config |= {"id2label": {"0": "c", "1": "a", "2": "b"}, "label2id": {"c": 0, "a": 1, "b": 2}}
    (turned / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = load_file(turned / "model.safetensors")
    heads = {name: weights[name][[2, 0, 1]] for name in ("classifier.weight", "classifier.bias")}
    save_file({**weights, **heads}, turned / "model.safetensors", {"format": "pt"})
    one = student_of(str(teacher.path), model, data, tmp_path / "one")
    other = student_of(str(turned), model, data, tmp_path / "other")
    both = student_of(f"{teacher.path},{turned}", model, data, tmp_path / "both")
    assert losses(other) == pytest.approx(losses(one), abs=1e-6)
    assert losses(both) == pytest.approx(losses(one), abs=1e-6)


def test_the_loss_of_a_step_is_that_of_a_plain_reference(teacher: RunDir, places: Any, tmp_path: Path) -> None:
    model, data = places("text-classification")
    settings = {"schedule__batch_size": 30, "schedule__steps": 1, "schedule__evaluate_every": 1}
    start = trained("text-classification", model, data, tmp_path / "start", **settings, schedule__learning_rate=1e-12)
    run = student_of(
        str(teacher.path), start.model, data, tmp_path / "runs", **settings, objectives__distillation__weight=0.3
    )
    split = Split.open(run.data, "train")
    batch = {
        key: torch.from_numpy(array) for key, array in pad(split.features(range(len(split))), 0, ("labels",)).items()
    }
    labels = batch.pop("labels").reshape(-1)
    with torch.no_grad():
        student, taught = (
            AutoModelForSequenceClassification.from_pretrained(one.model).eval()(**batch).logits
            for one in (start, teacher)
        )
    hard = functional.cross_entropy(student, labels)
    soft = functional.kl_div(torch.log_softmax(student / 2, -1), torch.softmax(taught / 2, -1), reduction="batchmean")
    assert losses(run) == pytest.approx([0.7 * hard.item() + 0.3 * 4 * soft.item()], rel=1e-5)


def test_a_teacher_of_other_classes_is_refused(teacher: RunDir, places: Any, tmp_path: Path) -> None:
    model, _ = places("text-classification")
    rows = [{"text": words(number), "label": "ad"[number % 2]} for number in range(30)]
    data = tmp_path / "other.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UserError, match="knows the classes a, b, c, but those of the rows are a, d"):
        student_of(str(teacher.path), model, data, tmp_path / "runs")


def test_a_place_without_a_model_is_refused(places: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither the folder of a run that has finished nor a model folder"):
        student_of(str(tmp_path), *places("text-classification"), tmp_path / "runs")


def test_a_teacher_with_other_tokens_may_teach_classes_of_texts_alone(
    teacher: RunDir, places: Any, tiny_model: Path, tmp_path: Path
) -> None:
    _, data = places("text-classification")
    run = student_of(str(teacher.path), tiny_model, data, tmp_path / "one")
    assert all(np.isfinite(losses(run)))
    tagger = trained(TAGS, *places(TAGS), tmp_path / "tagger")
    with pytest.raises(UserError, match="take a teacher with the same tokenizer"):
        trained(TAGS, tiny_model, places(TAGS)[1], tmp_path / "two", objectives__distillation__teachers=tagger.path)


def test_answers_are_asked_for_once(teacher: RunDir, places: Any, tmp_path: Path) -> None:
    run = student_of(str(teacher.path), *places("text-classification"), tmp_path / "runs")
    (folder,) = (run.path / "computed").glob("teachers-*")
    chances = np.load(folder / "chances-0.npy")
    assert chances.shape == (len(Split.open(run.data, "train")), 3)
    assert chances.sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_states_of_a_teacher_with_the_same_weights_are_the_same(
    distance: str, teacher: RunDir, places: Any, tmp_path: Path
) -> None:
    _, data = places("text-classification")
    settings = {"weight": 0, "hidden_weight": 5, "hidden": distance}
    named = {f"objectives__distillation__{name}": value for name, value in settings.items()}
    plain = trained("text-classification", teacher.model, data, tmp_path / "plain")
    run = student_of(str(teacher.path), teacher.model, data, tmp_path / "runs", **named)
    assert losses(run)[0] == pytest.approx(losses(plain)[0], abs=1e-4)
    assert losses(run)[-1] > losses(plain)[-1]


def test_a_student_may_begin_as_some_of_its_teachers_layers(teacher: RunDir, places: Any, tmp_path: Path) -> None:
    _, data = places("text-classification")
    run = student_of(str(teacher.path), teacher.model, data, tmp_path, layers="[1]", schedule__learning_rate=1e-9)
    config = json.loads((run.model / "config.json").read_text(encoding="utf-8"))
    assert config["num_hidden_layers"] == 1
    name = "bert.encoder.layer.{}.output.dense.weight"
    mine, theirs = (load_file(one.model / "model.safetensors") for one in (run, teacher))
    assert torch.allclose(mine[name.format(0)], theirs[name.format(1)], atol=1e-6)
    assert name.format(1) not in mine
