"""Reach a host as a run will: with ssh, with pdsh, and with the Python of the environment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import NamedTuple

from backend.host_facts import Facts
from backend.remote import CONNECT_SECONDS, OPTIONS, SSH_FAILED, Answer, module, run, ssh

# What ssh says -> what to do, for {host}; the first that fits.
ADVICE = {
    "Permission denied": "let this host in without a password: ssh-copy-id {host}",
    "Host key verification failed": "connect once by hand to accept its key: ssh {host}",
    "Connection refused": "start sshd there, or name its port with --ssh-port",
    "Could not resolve": "write the host's address to the hostfile, or its name to /etc/hosts",
    "timed out": "see that it is on, and that no firewall keeps ssh away",
    "No route to host": "see that it is on and in the same network",
    "": "try it by hand: ssh -o BatchMode=yes {host} true",
}


class Reached(NamedTuple):
    """How far one gets with a host."""

    ssh_fault: str = ""
    pdsh_fault: str = ""
    python_fault: str = ""
    advice: str = ""  # for ssh or pdsh
    facts: Facts | None = None


def reach(host: str, port: int, ask: Sequence[str], seconds: float) -> Reached:
    """Return what a host says of itself, or what is in the way."""
    answer = ssh(host, port, module("backend.host_facts", ask), seconds)
    if answer.code == SSH_FAILED:
        said = " ".join(answer.errors.split())
        advice = next(advice for words, advice in ADVICE.items() if words in said)
        return Reached(ssh_fault=answer.last_error, advice=advice.format(host=host))
    fault, advice = _pdsh(host, port, seconds)
    found = _facts(answer)
    why = f"no answer within {seconds:g} s" if answer.code is None else answer.last_error
    return Reached(pdsh_fault=fault, advice=advice, facts=found, python_fault="" if found else why)


def _facts(answer: Answer) -> Facts | None:
    lines = answer.output.strip().splitlines()
    return Facts(**json.loads(lines[-1])) if answer.code == 0 and lines else None


def _pdsh(host: str, port: int, seconds: float) -> tuple[str, str]:
    """Return why pdsh does not reach a host, and what to do, or nothing."""
    if shutil.which("pdsh") is None:
        return "pdsh is not installed here", "apt-get install pdsh, or let torchrun start the run"
    arguments = " ".join([*OPTIONS, *(["-p", str(port)] if port else [])])
    environment = {"PDSH_RCMD_TYPE": "ssh", "PDSH_SSH_ARGS_APPEND": arguments}
    answer = run(["pdsh", "-S", "-w", host, "true"], min(seconds, 4 * CONNECT_SECONDS), environment)
    if answer.code == 0:
        return "", ""
    fault = "no answer in time" if answer.code is None else answer.last_error
    return fault, f"try it by hand: PDSH_RCMD_TYPE=ssh pdsh -S -w {host} true"
