from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.arguments import parse
from backend.cluster import ROOT, TRAIN
from backend.clustered import check, new_run, parse_cluster, write_files
from backend.clusters import CLUSTERS
from backend.errors import UserError
from backend.rundir import RunDir
from backend.spec import parse_job

HOSTILE = 'it\'s $(touch hacked) `id` ; "x" é'
NEEDED: dict[str, dict[str, Any]] = {
    "hostfile": {"hosts": ["worker-1", "10.0.0.2"]},
    "torchrun": {"hosts": ["worker-1", "10.0.0.2"]},
    "slurm": {"nodes": 2},
    "kubernetes": {"nodes": 2, "image": "registry/tunewright:1", "claim": "runs"},
}


def write(kind: str, run: Path, **settings: Any) -> dict[str, str]:
    options = parse_cluster({"name": kind, **NEEDED[kind], **settings})
    return CLUSTERS[kind].write(options, run)


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def fake_python(folder: Path) -> Path:
    """Return a program that writes its arguments to a file, one a line, and what it was told of the network."""
    path = folder / "python that's fake"
    executable(path, f'printf "%s\\n" "$@" "$GLOO_SOCKET_IFNAME" >{shlex.quote(str(folder / "called"))}')
    return path


@pytest.mark.parametrize("kind", CLUSTERS)
def test_every_kind_starts_the_training_of_the_job_and_goes_on_from_a_checkpoint(kind: str) -> None:
    text = "".join(write(kind, Path("/runs/one")).values())
    words = " ".join(text.replace("- ", "").split())
    assert re.search(r"(backend/train\.py|backend\.train) --job \S*/one/job\.json --resume", words)


@pytest.mark.parametrize("kind", CLUSTERS)
def test_every_kind_tells_the_processes_the_interface_and_how_long_to_wait(kind: str) -> None:
    text = "".join(write(kind, Path("/runs/one"), interface="ib0", patience=7).values())
    flat = re.sub(r"\s*(- )?(name|value):\s*", " ", text)
    for name, value in {"GLOO_SOCKET_IFNAME": "ib0", "NCCL_SOCKET_IFNAME": "ib0", "DEEPSPEED_TIMEOUT": "7"}.items():
        assert re.search(f"{name}[= ]'?{value}", flat)


@pytest.mark.parametrize("kind", ["hostfile", "torchrun", "slurm"])
def test_every_script_is_right_for_its_shell(kind: str) -> None:
    for name, text in write(kind, Path("/runs/one"), interface="eth0").items():
        if text.startswith("#!"):
            shell = text.splitlines()[0].removeprefix("#!")
            done = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), name


def test_a_hostfile_has_what_the_launcher_reads_and_nothing_else() -> None:
    files = write("hostfile", Path("/runs/one"), slots=4, interface="eth0", ssh_port=2222)
    assert files["hostfile"] == "worker-1 slots=4\n10.0.0.2 slots=4\n"
    assert all(re.fullmatch(r"[A-Z_]+=\S+", line) for line in files["environment"].splitlines())
    assert "--master_addr worker-1 --master_port 29500 --ssh_port 2222" in files["run.sh"]


def test_the_launcher_is_called_with_the_files_beside_the_script(tmp_path: Path) -> None:
    executable(tmp_path / "python", f'printf "%s\\n" "$@" "$DS_ENV_FILE" "$PDSH_SSH_ARGS_APPEND" >{tmp_path}/called')
    folder = tmp_path / "a b"
    folder.mkdir()
    for name, text in write("hostfile", Path("/runs/one"), python=str(tmp_path / "python")).items():
        (folder / name).write_text(text, encoding="utf-8")
    subprocess.run(["/bin/sh", folder / "run.sh"], check=True, cwd="/")
    called = (tmp_path / "called").read_text(encoding="utf-8").splitlines()
    assert called[:4] == ["-m", "deepspeed.launcher.runner", "--hostfile", str(folder / "hostfile")]
    assert called[8:12] == [str(TRAIN), "--job", "/runs/one/job.json", "--resume"]
    assert called[12] == str(folder / "environment")
    assert "-o BatchMode=yes" in called[13]
    assert "-o ServerAliveInterval=" in called[13]


@pytest.mark.parametrize("place", [HOSTILE, "a b", "$(id)", "a;b"])
def test_a_path_that_the_deepspeed_launcher_would_run_is_refused(place: str) -> None:
    with pytest.raises(UserError, match=r"passes it through a shell on every host as it is; rename it"):
        write("hostfile", Path("/runs") / place)


def test_torchrun_gets_hostile_paths_as_they_are(tmp_path: Path) -> None:
    run = tmp_path / HOSTILE
    (script,) = write("torchrun", run, slots=2, interface="eth0", python=str(fake_python(tmp_path))).values()
    subprocess.run(["/bin/sh"], input=script, text=True, check=True, cwd=tmp_path)
    called = (tmp_path / "called").read_text(encoding="utf-8").splitlines()
    assert called[:8] == [
        "-m",
        "torch.distributed.run",
        "--nnodes",
        "2",
        "--nproc-per-node",
        "2",
        "--rdzv-id",
        run.name,
    ]
    assert called[8:12] == ["--rdzv-backend", "c10d", "--rdzv-endpoint", "worker-1:29500"]
    assert called[12:] == [str(TRAIN), "--job", str(run / "job.json"), "--resume", "eth0"]
    assert not list(ROOT.glob("hacked"))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a Slurm of one node on the PATH; return the folder in which it writes what it was asked."""
    executable(tmp_path / "scontrol", f'if [ "$1" = show ]; then echo node-1; else echo "$@" >>{tmp_path}/requeued; fi')
    executable(tmp_path / "srun", f'shift; printf "%s\\n" "$@" >{tmp_path}/called; . {tmp_path}/does')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"JOB_ID": "17", "JOB_NUM_NODES": "2", "JOB_NODELIST": "node-[1-2]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return tmp_path


def submit(slurm: Path, does: str) -> tuple[Path, subprocess.Popen[bytes]]:
    (slurm / "does").write_text(does + "\n", encoding="utf-8")
    run = slurm / HOSTILE
    run.mkdir()
    (run / "stop").write_text("0", encoding="utf-8")  # of an earlier session
    script = slurm / "job.sbatch"
    script.write_text(write("slurm", run, slots=4, interface="eth0")["job.sbatch"], encoding="utf-8")
    return run, subprocess.Popen(["/bin/bash", script])


def test_slurm_asks_for_nodes_gpus_and_a_signal_before_the_end() -> None:
    text = write("slurm", Path("/runs/One Two"), slots=4, time="1-12:00:00", partition="gpu", notice=90)["job.sbatch"]
    asked = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in text.splitlines() if "#SBATCH" in line)
    assert asked["job-name"] == "tunewright-one-two"
    assert (asked["nodes"], asked["ntasks-per-node"], asked["gpus-per-node"]) == ("2", "1", "4")
    assert (asked["time"], asked["partition"], asked["signal"]) == ("1-12:00:00", "gpu", "B:USR1@90")
    assert "requeue" in asked
    assert "account" not in asked
    assert "gpus-per-node" not in write("slurm", Path("/runs/one"), gpus=False)["job.sbatch"]


def test_slurm_ends_as_the_training_does(slurm: Path) -> None:
    run, job = submit(slurm, "exit 3")
    assert job.wait(30) == 3
    assert not (run / "stop").exists()
    called = (slurm / "called").read_text(encoding="utf-8").splitlines()
    assert called[:5] == [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4"]
    assert called[5:13] == [
        "--nnodes",
        "2",
        "--rdzv-id",
        "17",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "node-1:29500",
    ]
    assert called[13:] == [str(TRAIN), "--job", str(run / "job.json"), "--resume"]
    assert not (slurm / "requeued").exists()


@pytest.mark.parametrize("finished", [False, True])
def test_slurm_asks_the_run_to_stop_when_time_is_short_and_queues_it_again_unless_it_has_finished(
    slurm: Path, *, finished: bool
) -> None:
    run, job = submit(slurm, f"while [ ! -e {shlex.quote(str(slurm / HOSTILE / 'stop'))} ]; do sleep 0.1; done")
    end = time.monotonic() + 30
    while not (slurm / "called").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    if finished:
        (run / "report.json").write_text("{}", encoding="utf-8")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0
    assert float((run / "stop").read_text(encoding="utf-8")) > time.time()
    assert (slurm / "requeued").exists() is not finished
    if not finished:
        assert (slurm / "requeued").read_text(encoding="utf-8") == "requeue 17\n"


def test_a_pytorchjob_has_a_master_and_workers_that_share_the_volume() -> None:
    job = yaml.safe_load(write("kubernetes", Path("/home/me/runs/2026-One"), nodes=3, slots=2)["job.yaml"])
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    assert job["metadata"]["name"] == "tunewright-2026-one"
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert {kind: one["replicas"] for kind, one in replicas.items()} == {"Master": 1, "Worker": 2}
    assert {one["restartPolicy"] for one in replicas.values()} == {"OnFailure"}
    pod = replicas["Worker"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "pytorch"
    assert container["command"][:7] == [
        "python",
        "-m",
        "torch.distributed.run",
        "--nnodes",
        "3",
        "--nproc-per-node",
        "2",
    ]
    assert container["command"][7:] == [
        *("--node-rank", "$(RANK)", "--master-addr", "$(MASTER_ADDR)", "--master-port", "$(MASTER_PORT)"),
    ]
    assert container["args"] == ["-m", "backend.train", "--job", "/workspace/2026-One/job.json", "--resume"]
    assert container["resources"]["limits"] == {"cpu": 16, "memory": "32Gi", "nvidia.com/gpu": 2}
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    assert pod["volumes"][0] == {"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}


def test_a_pytorchjob_of_one_pod_has_no_workers_and_takes_hostile_names_as_they_are() -> None:
    run, image = Path("/runs") / HOSTILE, "x: [y]\n- z"
    job = yaml.safe_load(write("kubernetes", run, nodes=1, image=image, gpus=False)["job.yaml"])
    assert set(job["spec"]["pytorchReplicaSpecs"]) == {"Master"}
    (container,) = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"]
    assert container["image"] == image
    assert container["args"][3] == f"/workspace/{HOSTILE}/job.json".replace("$(", "$$(")
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


@pytest.mark.parametrize("kind", ["torchrun", "slurm"])
def test_a_path_with_a_line_break_is_refused(kind: str) -> None:
    with pytest.raises(UserError, match=r"has a control character, and cannot stand in a script; rename it"):
        write(kind, Path("/runs/a\n#SBATCH --x"))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("hostfile", {"hosts": []}, "hosts: "),
        ("hostfile", {"hosts": ["-oProxyCommand=x"]}, r"hosts\.0: .* not '-oProxyCommand=x'"),
        ("torchrun", {"hosts": ["a b"]}, r"hosts\.0: .* not 'a b'"),
        ("slurm", {"partition": "gpu\n#SBATCH --x"}, "partition: "),
        ("slurm", {"time": "tomorrow"}, "time: .* not 'tomorrow'"),
        ("slurm", {"interface": "eth0;id"}, "interface: .* not 'eth0;id'"),
        ("kubernetes", {"mount": "here"}, "mount: .* not 'here'"),
        ("slurm", {"hosts": ["a"]}, "hosts: there is no such setting"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_cluster({"name": kind, **NEEDED[kind], **settings})


def test_an_unknown_kind_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match='"pbs" is no kind of cluster; choose one of slurm, hostfile, torchrun, kube'):
        parse_cluster({"name": "pbs"})


def test_a_new_run_waits_and_its_files_lie_in_its_folder(tmp_path: Path) -> None:
    run = new_run(tmp_path, parse_job({"model": "m", "data": {"train": "t.csv"}}))
    assert (run.status().state, run.status().message) == ("stopped", "waits for a cluster to start it")
    written = write_files(run, parse_cluster({"name": "slurm"}))
    assert written.folder == run.path / "cluster" / "slurm"
    assert (written.folder / "job.sbatch").read_text(encoding="utf-8") == written.files["job.sbatch"]
    assert written.next_step == f"sbatch {written.folder}/job.sbatch"
    elsewhere = write_files(run, parse_cluster({"name": "slurm"}), tmp_path / "else where")
    assert elsewhere.next_step == f"sbatch '{tmp_path}/else where/job.sbatch'"
    assert parse(["--job", str(run.job_file), "--resume"]).run == run.path


def test_a_finished_run_is_not_started_again(tmp_path: Path) -> None:
    run = new_run(tmp_path, parse_job({"model": "m", "data": {"train": "t.csv"}}))
    run.write_report({})
    with pytest.raises(UserError, match="has finished; to train further, start a new run"):
        write_files(RunDir.open(run.path), parse_cluster({"name": "slurm"}))


@pytest.mark.parametrize("kind", CLUSTERS)
def test_a_batch_that_the_processes_cannot_share_is_refused_before_anything_is_written(kind: str) -> None:
    job = parse_job({"model": "m", "data": {"train": "t.csv"}, "schedule": {"batch_size": 8}})
    check(job, parse_cluster({"name": kind, **NEEDED[kind], "slots": 2}))
    with pytest.raises(UserError, match="batch_size 8 cannot be shared by 6 processes"):
        check(job, parse_cluster({"name": kind, **NEEDED[kind], "slots": 3}))
