"""A run on two hosts: the updates of one process, and an end that names the host when one is lost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import two_hosts
from tiny_runs import losses
from two_hosts import Host

from backend.cluster import ROOT
from backend.clustered import parse_cluster, write_files
from backend.rundir import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(two_hosts.missing()), reason=two_hosts.missing()),
]

ENDLESS = 100_000  # steps: more than any test waits for
EVERY = 20  # steps between checkpoints


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    with two_hosts.two_hosts(tmp_path_factory.mktemp("ssh")) as made:
        yield made


def start(run: RunDir, hosts: tuple[Host, Host]) -> subprocess.Popen[bytes]:
    """Start a run with the files that are written for it."""
    settings = {"name": "hostfile", "hosts": [host.address for host in hosts], "interface": two_hosts.INTERFACE}
    written = write_files(run, parse_cluster(settings))
    argv = two_hosts.inside(hosts[0], ["sh", written.folder / "run.sh"])
    with run.launcher_log_file.open("ab") as output:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def wait(run: RunDir, reached: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"{run.status()}\n{run.launcher_log_file.read_text()[-3000:]}"
        time.sleep(0.2)


def preflight(hosts: tuple[Host, Host], folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the hosts from the first one."""
    (folder / "hostfile").write_text("".join(f"{host.address} slots=1\n" for host in hosts), encoding="utf-8")
    (folder / "runs").mkdir(exist_ok=True)
    argv: list[object] = [sys.executable, "-m", "webui.cli", "preflight", "--hostfile", folder / "hostfile"]
    argv += ["--interface", two_hosts.INTERFACE, "--workspace", folder / "runs"]
    return subprocess.run(
        two_hosts.inside(hosts[0], argv), cwd=ROOT, check=False, capture_output=True, text=True, timeout=300
    )


def test_the_hosts_pass_the_checks_and_one_that_is_cut_off_is_named(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    done = preflight(hosts, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(" MB/s of a tensor summed over all hosts") == 2
    assert "failed" not in done.stdout
    two_hosts.plug(hosts[1], "down")
    try:
        done = preflight(hosts, tmp_path)
    finally:
        two_hosts.plug(hosts[1], "up")
    assert done.returncode == 2
    assert f"host {hosts[1].address}, ssh: " in done.stderr
    assert f"host {hosts[0].address}" not in done.stderr


def test_two_hosts_make_the_updates_of_one_process(
    hosts: tuple[Host, Host], new_tiny_run: Callable[..., RunDir], train_here: Callable[..., None]
) -> None:
    alone, together = (new_tiny_run(**{"schedule.steps": 12}) for _ in range(2))
    train_here(alone)
    assert start(together, hosts).wait(240) == 0, together.launcher_log_file.read_text()[-3000:]
    assert together.status().ranks == 2
    assert len(losses(together)) == 12
    assert losses(together) == pytest.approx(losses(alone), rel=1e-5)


def train_alone(run: RunDir, until: int, host: Host | None = None) -> None:
    """Train a run with one process, on a host or on none of them, and stop it after a step."""
    argv = [sys.executable, ROOT / "backend" / "train.py", "--job", run.job_file, "--resume"]
    command = two_hosts.inside(host, argv) if host else [*map(str, argv)]
    with run.launcher_log_file.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    wait(run, lambda: process.poll() is not None or (run.stored_status().state == "training" and seen(run, until)), 120)
    run.request_stop(60)
    assert process.wait(60) == 0, run.launcher_log_file.read_text()[-3000:]
    assert run.status().state == "stopped"


def seen(run: RunDir, step: int) -> bool:
    return any(record["step"] >= step for record in run.metrics()[-1:])


def test_a_host_that_is_cut_off_is_named_and_the_other_goes_on_alone(
    hosts: tuple[Host, Host], new_tiny_run: Callable[..., RunDir]
) -> None:
    settings = {"schedule.steps": ENDLESS, "schedule.evaluate_every": EVERY, "schedule.learning_rate": 1e-3}
    run, whole = (new_tiny_run(**settings) for _ in range(2))
    launcher = start(run, hosts)
    wait(run, lambda: run.status().state == "training" and run.status().step > EVERY + 2, 120)
    two_hosts.plug(hosts[1], "down")
    try:
        wait(run, lambda: run.status().ended, 60)
        assert run.status().state == "failed"
        assert run.status().message.startswith(f"host {hosts[1].name} ({hosts[1].address}) was lost: rank 1 there")
        assert launcher.wait(60) != 0
        wait(run, lambda: not any(two_hosts.processes(host) for host in hosts), 60)
        lost = len(losses(run))
        train_alone(run, lost + 2 * EVERY, hosts[0])
    finally:
        two_hosts.plug(hosts[1], "up")
    assert run.status().ranks == 1
    train_alone(whole, len(losses(run)))
    steps = [record["step"] for record in run.metrics() if record["kind"] == "train"]
    assert steps == list(range(1, len(steps) + 1))
    assert losses(run) == pytest.approx(losses(whole)[: len(steps)], rel=1e-4)
