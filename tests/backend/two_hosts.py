"""Two hosts on one machine: network namespaces joined by a switch, each with a name and an sshd of its own.

It needs root, and of Debian: apt-get install iproute2 openssh-server pdsh
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

SSH_CONFIG = Path("/etc/ssh/ssh_config.d/tunewright-two-hosts.conf")
NETNS = Path("/etc/netns")  # a namespace sees the files of its folder as those of /etc
INTERFACE = "eth0"
SECONDS = 30.0

# SHLVL: bash reads no start-up files, which may take long.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "SHLVL": "1"}
PASSED_ON = ("TORCH_EXTENSIONS_DIR",)

SSHD = """
Port 22
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
AuthorizedKeysFile {folder}/login_key.pub
SetEnv {environment}
ClientAliveInterval 5
ClientAliveCountMax 3
"""
SSH = """
Host {addresses}
    IdentityFile {folder}/login_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
"""


class Host(NamedTuple):
    """One of the two."""

    name: str  # of the namespace and of the host
    address: str


SWITCH = "tunewright-switch"
HOSTS = (Host("tunewright-a", "10.77.0.1"), Host("tunewright-b", "10.77.0.2"))


def missing() -> str:
    """Return why there can be no two hosts here, or nothing."""
    tools = [tool for tool in ("ip", "unshare", "ssh-keygen", "pdsh") if not shutil.which(tool)]
    if not Path("/usr/sbin/sshd").exists():
        tools.append("sshd")
    if tools:
        return f"two hosts need {', '.join(tools)}: apt-get install iproute2 openssh-server pdsh"
    return "" if os.geteuid() == 0 else "only root can make network namespaces"


def inside(host: Host, argv: Sequence[object]) -> list[str]:
    """Return a command as one that runs on a host."""
    named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', host.name]
    return ["ip", "netns", "exec", host.name, *named, *map(str, argv)]


def processes(host: Host) -> list[psutil.Process]:
    """Return what runs on a host beside its sshd."""
    pids = _run("ip", "netns", "pids", host.name).split()
    found = []
    for pid in map(int, pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.name() != "sshd" and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def plug(host: Host, state: str) -> None:
    """Pull the cable of a host, or put it back: "down" or "up"."""
    _run("ip", "-n", host.name, "link", "set", INTERFACE, state)


@contextlib.contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Make the hosts, and leave nothing of them."""
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        _wire()
        _keys(folder)
        Path("/run/sshd").mkdir(exist_ok=True)
        SSH_CONFIG.write_text(
            SSH.format(addresses=" ".join(host.address for host in HOSTS), folder=folder), encoding="utf-8"
        )
        for host in HOSTS:
            config = folder / f"{host.name}.conf"
            config.write_text(_sshd(host, folder), encoding="utf-8")
            argv = ["/usr/sbin/sshd", "-D", "-f", config, "-E", folder / f"{host.name}.log"]
            daemons.append(subprocess.Popen(inside(host, argv), stdin=subprocess.DEVNULL))
        for host in HOSTS:
            _await_ssh(host)
        yield HOSTS
    finally:
        SSH_CONFIG.unlink(missing_ok=True)
        for host in HOSTS:
            _end(host)
        for daemon in daemons:
            daemon.wait(SECONDS)
        for name in {SWITCH, *(host.name for host in HOSTS)} & set(_run("ip", "netns", "list").split()):
            _run("ip", "netns", "delete", name)
            shutil.rmtree(NETNS / name, ignore_errors=True)


def _wire() -> None:
    for host in HOSTS:
        _run("ip", "netns", "add", host.name)
        own = NETNS / host.name
        own.mkdir(parents=True, exist_ok=True)
        names = "".join(f"{one.address} {one.name}\n" for one in HOSTS)
        (own / "hosts").write_text(f"127.0.0.1 localhost\n{names}", encoding="utf-8")
        # Nobody answers there, but says so at once: the name server of this machine cannot be reached from a host.
        (own / "resolv.conf").write_text("nameserver 127.0.0.1\n", encoding="utf-8")
    _run("ip", "netns", "add", SWITCH)
    _run("ip", "-n", SWITCH, "link", "add", "switch", "type", "bridge")
    _run("ip", "-n", SWITCH, "link", "set", "switch", "up")
    for port, host in enumerate(HOSTS):
        socket = ("peer", "name", f"port-{port}", "netns", SWITCH)
        _run("ip", "link", "add", INTERFACE, "netns", host.name, "type", "veth", *socket)
        _run("ip", "-n", SWITCH, "link", "set", f"port-{port}", "master", "switch", "up")
        _run("ip", "-n", host.name, "address", "add", f"{host.address}/24", "dev", INTERFACE)
        for device in ("lo", INTERFACE):
            _run("ip", "-n", host.name, "link", "set", device, "up")


def _keys(folder: Path) -> None:
    for key in ("host_key", "login_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
    public = " ".join((folder / "host_key.pub").read_text(encoding="utf-8").split()[:2])
    lines = "".join(f"{host.address} {public}\n" for host in HOSTS)
    (folder / "known_hosts").write_text(lines, encoding="utf-8")


def _sshd(host: Host, folder: Path) -> str:
    variables = {**ENVIRONMENT, **{name: os.environ[name] for name in PASSED_ON if name in os.environ}}
    environment = " ".join(f'"{name}={value}"' for name, value in variables.items())
    return SSHD.format(address=host.address, folder=folder, environment=environment)


def _await_ssh(host: Host) -> None:
    end = time.monotonic() + SECONDS
    probe = inside(HOSTS[0], ["ssh", "-o", "BatchMode=yes", host.address, "hostname"])
    while True:
        done = subprocess.run(probe, check=False, capture_output=True, text=True)
        if done.stdout.strip() == host.name:
            return
        if time.monotonic() > end:
            raise RuntimeError(f"{host.address}: ssh does not answer: {done.stdout}{done.stderr}")
        time.sleep(0.2)


def _end(host: Host) -> None:
    """End all that runs on a host, its sshd too."""
    if host.name not in _run("ip", "netns", "list").split():
        return
    for pid in map(int, _run("ip", "netns", "pids", host.name).split()):
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


def _run(*argv: str) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout
