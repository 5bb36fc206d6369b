from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from backend.clusters import CLUSTERS
from backend.rundir import RunDir
from webui.cli import app


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.json").write_text(json.dumps({"model": "m", "data": {"train": "t.csv"}}), encoding="utf-8")
    return tmp_path / "job.json"


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_job_becomes_a_run_with_the_files_of_the_cluster(job: Path) -> None:
    code, shown, error = call(
        "cluster", job, "--for", "hostfile", "--hosts", "a,b", "--slots", 4, "--interface", "eth0", "--ssh-port", 2222
    )
    assert code == 0, error
    (run,) = RunDir.all(job.parent / "runs")
    assert (run.cluster / "hostfile" / "hostfile").read_text(encoding="utf-8") == "a slots=4\nb slots=4\n"
    assert "--ssh_port 2222" in (run.cluster / "hostfile" / "run.sh").read_text(encoding="utf-8")
    assert f"sh {run.cluster}/hostfile/run.sh" in shown
    assert "tunewright preflight --hostfile" in shown


@pytest.mark.parametrize("by", ["folder", "job file"])
def test_a_run_gets_files_of_other_kinds_too(job: Path, by: str) -> None:
    call("cluster", job, "--for", "slurm", "--no-gpus", "--nodes", 2)
    (run,) = RunDir.all(job.parent / "runs")
    place = run.path if by == "folder" else run.job_file
    code, _, error = call("cluster", place, "--for", "kubernetes", "--image", "i", "--claim", "c", "--out", "there")
    assert code == 0, error
    assert RunDir.all(job.parent / "runs")[1:] == []
    manifest = yaml.safe_load((job.parent / "there" / "job.yaml").read_text(encoding="utf-8"))
    assert manifest["kind"] == "PyTorchJob"
    assert "--gpus-per-node" not in (run.cluster / "slurm" / "job.sbatch").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--for is missing; give one of slurm, hostfile, torchrun, kubernetes"),
        (("--for", "pbs"), '--for "pbs" is no kind of cluster; give one of slurm'),
        (("--for", "hostfile"), "hosts: is missing"),
        (("--for", "hostfile", "--hosts", "a b"), "hosts.0: "),
        (("--for", "slurm", "--tme", "3"), "did you mean --time?"),
        (("--for", "slurm", "--nodes", "0"), "nodes: "),
        (("--for", "slurm", "--nodes", "3"), "batch_size 32 cannot be shared by 3 processes"),
    ],
)
def test_what_is_wrong_is_said_before_a_run_is_made(job: Path, arguments: tuple[str, ...], message: str) -> None:
    code, _, error = call("cluster", job, *arguments)
    assert code == 2
    assert error.startswith("error: ")
    assert message in error
    assert not (job.parent / "runs").exists()


@pytest.mark.usefixtures("job")
def test_a_job_that_is_not_there_is_named() -> None:
    assert "nowhere.json: cannot be read" in call("cluster", "nowhere.json", "--for", "slurm")[2]
    assert "give one job file or run, not 0" in call("cluster", "--for", "slurm")[2]


def test_help_lists_the_kinds_and_the_settings_of_one(capfd: pytest.CaptureFixture[str]) -> None:
    shown = call("cluster", "--help")[1]
    assert all(f"  {name}" in shown and kind.about in shown for name, kind in CLUSTERS.items())
    shown = call("cluster", "--for", "kubernetes", "--help")[1] + capfd.readouterr().out
    assert "--claim" in shown
    assert "--partition" not in shown


def test_preflight_prints_a_table_and_ends_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\necho "ssh: Could not resolve hostname moon: Name not known" >&2\nexit 255\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "hosts").write_text("moon slots=1\n")
    code, shown, error = call(
        "preflight", "--hostfile", tmp_path / "hosts", "--workspace", tmp_path, "--master-port", 2900
    )
    assert code == 2
    assert "moon" in shown
    assert "skipped" in shown
    assert "host moon, ssh: ssh: Could not resolve hostname moon" in error
    assert "write the host's address to the hostfile, or its name to /etc/hosts" in error


def test_preflight_says_what_is_wrong_with_its_flags(tmp_path: Path) -> None:
    assert "hostfile: is missing" in call("preflight")[2]
    assert "did you mean --hostfile?" in call("preflight", "--hostfil", "x")[2]
    assert "nowhere: cannot be read" in call("preflight", "--hostfile", tmp_path / "nowhere")[2]
