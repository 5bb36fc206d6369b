from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from backend.clustered import Target
from backend.clusters import CLUSTERS
from backend.errors import UserError
from backend.rundir import RunDir
from backend.spec import JobSpec, parse_job
from webui.cluster_part import ClusterPart
from webui.form import Form
from webui.shared import Shared


@pytest.fixture
def part(tmp_path: Path, draw: Callable[[Callable[[], Any]], Any]) -> tuple[ClusterPart, Form]:
    def job(*answers: Any) -> JobSpec:
        if answers:
            raise UserError("model: is missing")
        return parse_job({"model": "m", "data": {"train": "t.csv"}})

    def make() -> tuple[ClusterPart, Form]:
        form = Form(Target)
        form.draw("cluster", "cluster.*")
        return ClusterPart(Shared(tmp_path, gr.Tabs(), gr.Textbox()), Form(JobSpec), job, form), form

    made: tuple[ClusterPart, Form] = draw(make)
    return made


def answers(form: Form, **settings: Any) -> list[Any]:
    """Return what the widgets hold, with some of them changed, by their keys with __ for the dots."""
    changed = {key.replace("__", "."): value for key, value in settings.items()}
    return [changed.get(entry.key, entry.widget.value) for entry in form.entries]


def test_every_kind_can_be_chosen_and_has_its_settings(part: tuple[ClusterPart, Form]) -> None:
    _, form = part
    keys = {entry.key for entry in form.entries}
    for name, kind in CLUSTERS.items():
        assert {f"cluster.{name}.{field}" for field in kind.Options.model_fields if field != "name"} <= keys


def test_the_files_are_written_and_shown(part: tuple[ClusterPart, Form], tmp_path: Path) -> None:
    written, form = part
    shown = written.write(
        *answers(form, cluster="hostfile", cluster__hostfile__hosts="a, b", cluster__hostfile__slots=2)
    )
    (run,) = RunDir.all(tmp_path)
    assert (run.cluster / "hostfile" / "hostfile").read_text(encoding="utf-8") == "a slots=2\nb slots=2\n"
    assert "a slots=2" in shown
    assert f"sh {run.cluster}/hostfile/run.sh" in shown
    assert run.id in shown


def test_what_is_wrong_is_shown_and_no_run_is_made(part: tuple[ClusterPart, Form], tmp_path: Path) -> None:
    written, form = part
    assert "nodes: Input should be greater than or equal to 1" in written.write(*answers(form, cluster__slurm__nodes=0))
    assert "hosts: " in written.write(*answers(form, cluster="torchrun"))
    assert RunDir.all(tmp_path) == []
