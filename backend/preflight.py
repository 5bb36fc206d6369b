"""Check the hosts of a cluster before a run is started on them: what would fail, on which host, and what to do."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field

from backend.cluster import ROOT
from backend.errors import UserError
from backend.host_facts import Facts, versions
from backend.hosts import INTERFACE, Host, read_hostfile
from backend.interfaces import Options
from backend.reaching import Reached, reach
from backend.remote import Answer, module, ssh

T = TypeVar("T")
MOST_AT_ONCE = 32


class Preflight(Options):
    """What is checked."""

    hostfile: str = Field(description="A line for each host, as in worker-1 slots=4; the first one leads.")
    interface: str = Field("", pattern=INTERFACE, description="Network interface that joins the hosts, as in eth0.")
    master_port: int = Field(29500, ge=1024, le=65535, description="Port of the first host at which processes meet.")
    ssh_port: int = Field(0, ge=0, le=65535, description="Port of ssh; 0: as ssh is configured.")
    workspace: str = Field("runs", description="Folder of the runs, the same one on every host.")
    seconds: int = Field(60, ge=1, description="Time that each check of a host may take.")


class Finding(NamedTuple):
    """What a check of a host came to."""

    host: str
    check: str
    state: Literal["ok", "failed", "skipped"]
    detail: str  # what was seen, or why it was skipped
    advice: str = ""  # of a failure: what to do next


def check_hosts(settings: Preflight) -> list[Finding]:
    """Return what every check of every host came to. Raises UserError if there is nothing to check with."""
    hosts = read_hostfile(Path(settings.hostfile))
    workspace = Path(settings.workspace).resolve()
    if not workspace.is_dir():
        raise UserError(f"--workspace {workspace}: is not a folder; make it on a file system that all hosts share")
    with _token(workspace) as (file, token):
        ask = ["--token-file", str(file), "--port", str(settings.master_port)]
        reached = _on_all(hosts, lambda host: reach(host.name, settings.ssh_port, ask, settings.seconds))
    with_gpus = any(one.facts and one.facts.gpus for one in reached)
    findings = []
    for number, (host, one) in enumerate(zip(hosts, reached, strict=True)):
        found = list(_connections(host, one))
        if one.facts:
            found += [
                _versions(host, one.facts),
                _workspace(host, one.facts, workspace, token),
                _interface(host, one.facts, settings.interface),
                _gpus(host, one.facts, with_gpus=with_gpus),
                *([] if number else [_port(host, one.facts, settings.master_port)]),
            ]
        findings.append(found)
    failed = any(finding.state == "failed" for found in findings for finding in found)
    speeds = (
        [_not_measured(host, hosts) for host in hosts] if failed or len(hosts) == 1 else _bandwidth(hosts, settings)
    )
    return [finding for found, speed in zip(findings, speeds, strict=True) for finding in [*found, speed]]


def raise_failures(findings: Sequence[Finding]) -> None:
    """Raise UserError with the hosts that fail a check, and what to do."""
    lines = [
        f"  host {found.host}, {found.check}: {found.detail}" + (f"; {found.advice}" if found.advice else "")
        for found in findings
        if found.state == "failed"
    ]
    if lines:
        raise UserError("\n".join(["a run on these hosts would fail:", *lines]))


def _on_all(hosts: Sequence[Host], ask: Callable[[Host], T]) -> list[T]:
    with ThreadPoolExecutor(min(MOST_AT_ONCE, len(hosts))) as pool:
        return list(pool.map(ask, hosts))


@contextmanager
def _token(workspace: Path) -> Iterator[tuple[Path, str]]:
    """Write a word into the workspace that only who sees this folder can know."""
    token = secrets.token_hex(8)
    file = workspace / f".preflight-{secrets.token_hex(4)}"
    file.write_text(token, encoding="utf-8")
    try:
        yield file, token
    finally:
        file.unlink()


def _connections(host: Host, reached: Reached) -> Iterator[Finding]:
    """Yield whether ssh, pdsh and the environment's Python can be used there."""
    name = host.name
    if reached.ssh_fault:
        yield Finding(name, "ssh", "failed", reached.ssh_fault, reached.advice)
        yield Finding(name, "pdsh", "skipped", "ssh failed")
        yield Finding(name, "environment", "skipped", "ssh failed")
        return
    yield Finding(name, "ssh", "ok", "without a password")
    if reached.pdsh_fault:
        yield Finding(name, "pdsh", "failed", reached.pdsh_fault, reached.advice)
    else:
        yield Finding(name, "pdsh", "ok", "reaches the host")
    if reached.facts is None:
        advice = f"{ROOT} and {sys.executable} must be there as they are here"
        yield Finding(name, "environment", "failed", reached.python_fault, advice)
    else:
        yield Finding(name, "environment", "ok", sys.executable)


def _versions(host: Host, facts: Facts) -> Finding:
    here = versions()
    other = [
        f"{name} {facts.versions.get(name)}, here {here[name]}"
        for name in here
        if facts.versions.get(name) != here[name]
    ]
    if other:
        return Finding(host.name, "versions", "failed", "; ".join(other), "install the same versions on every host")
    return Finding(host.name, "versions", "ok", ", ".join(f"{name} {version}" for name, version in here.items()))


def _workspace(host: Host, facts: Facts, workspace: Path, token: str) -> Finding:
    if facts.token == token:
        return Finding(host.name, "workspace", "ok", f"{workspace} is shared")
    advice = "mount the folder of the runs there under the same path, or name another one with --workspace"
    return Finding(host.name, "workspace", "failed", f"{workspace} is not the same folder as here", advice)


def _interface(host: Host, facts: Facts, interface: str) -> Finding:
    if not interface:
        return Finding(host.name, "interface", "skipped", "none was named with --interface")
    there = ", ".join(name for name, found in facts.addresses.items() if found) or "none"
    if found := facts.addresses.get(interface):
        return Finding(host.name, "interface", "ok", f"{interface} has {found[0]}")
    fault = "has no address" if interface in facts.addresses else "is not there, or not up"
    return Finding(host.name, "interface", "failed", f"{interface} {fault}", f"the interfaces with an address: {there}")


def _gpus(host: Host, facts: Facts, *, with_gpus: bool) -> Finding:
    if not with_gpus:
        return Finding(host.name, "GPUs", "skipped", "no host has a GPU: the run trains on CPUs")
    if facts.gpus >= host.slots:
        return Finding(host.name, "GPUs", "ok", f"{facts.gpus} for {host.slots} processes")
    advice = f"write slots={facts.gpus} to the hostfile" if facts.gpus else "take the host out of the hostfile"
    return Finding(host.name, "GPUs", "failed", f"{facts.gpus} for {host.slots} processes", advice)


def _port(host: Host, facts: Facts, port: int) -> Finding:
    if not facts.port:
        return Finding(host.name, "master port", "ok", f"{port} is free")
    return Finding(host.name, "master port", "failed", f"{port}: {facts.port}", "name a free one with --master-port")


def _not_measured(host: Host, hosts: Sequence[Host]) -> Finding:
    why = "there is only one host" if len(hosts) == 1 else "another check failed"
    return Finding(host.name, "bandwidth", "skipped", why)


def _bandwidth(hosts: Sequence[Host], settings: Preflight) -> list[Finding]:
    """Sum a tensor over one process of every host, and return how fast it was."""
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if settings.interface else ()
    shared = {
        **dict.fromkeys(names, settings.interface),
        "MASTER_ADDR": hosts[0].name,
        "MASTER_PORT": str(settings.master_port),
        "WORLD_SIZE": str(len(hosts)),
        "OMP_NUM_THREADS": "1",
    }

    def measure(host: Host) -> Answer:
        argv = module(
            "backend.bandwidth", [str(settings.seconds)], {**shared, "RANK": str(hosts.index(host)), "LOCAL_RANK": "0"}
        )
        return ssh(host.name, settings.ssh_port, argv, 2 * settings.seconds)

    with ThreadPoolExecutor(len(hosts)) as pool:  # all at once, for each waits for all the others
        answers = list(pool.map(measure, hosts))
    return [_speed(host, answer, settings) for host, answer in zip(hosts, answers, strict=True)]


def _speed(host: Host, answer: Answer, settings: Preflight) -> Finding:
    if answer.code == 0:
        speed = json.loads(answer.output.splitlines()[-1])["megabytes_per_second"]
        return Finding(host.name, "bandwidth", "ok", f"{speed:,.0f} MB/s of a tensor summed over all hosts")
    fault = f"no answer within {2 * settings.seconds} s" if answer.code is None else answer.last_error
    advice = (
        "let the hosts reach each other at every port (a firewall?)"
        if settings.interface
        else "name the interface that joins the hosts with --interface, as in --interface eth0"
    )
    return Finding(host.name, "bandwidth", "failed", fault, advice)
