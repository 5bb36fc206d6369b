"""The checks of hosts, over an ssh and a pdsh of the tests: a host behaves as its name says."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from backend.errors import UserError
from backend.host_facts import versions
from backend.preflight import Finding, Preflight, check_hosts, raise_failures

# Every host is this machine, but for what its name says.
SSH = r"""#!/bin/sh
while [ "$1" != -- ]; do shift; done
host=$2 command=$3
case $host in
refused) echo "ssh: connect to host refused port 22: Connection refused" >&2; exit 255;;
locked) echo "root@locked: Permission denied (publickey)." >&2; exit 255;;
unknown) echo "Host key verification failed." >&2; exit 255;;
stuck) exec sleep 60;;
bare) echo "No module named backend.host_facts" >&2; exit 1;;
older) sh -c "$command" | sed 's/"deepspeed": "[^"]*"/"deepspeed": "0.1.2"/';;
unshared) sh -c "$(echo "$command" | sed 's/\.preflight-[0-9a-f]*/absent/')";;
gpus) sh -c "$command" | sed 's/"gpus": 0/"gpus": 2/';;
*) exec sh -c "$command";;
esac
"""
PDSH = r"""#!/bin/sh
while [ "$1" != -w ]; do shift; done
case $2 in
no-pdsh) echo "pdsh@here: no-pdsh: ssh exited with exit code 255" >&2; exit 255;;
esac
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the tools on the PATH; return the folder of a workspace."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in {"ssh": SSH, "pdsh": PDSH}.items():
        (tools / name).write_text(script, encoding="utf-8")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "runs").mkdir()
    return tmp_path


def free_port() -> int:
    with socket.create_server(("", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def found(folder: Path, *hosts: str, **settings: object) -> dict[tuple[str, str], Finding]:
    file = folder / "hostfile"
    file.write_text("".join(f"{host}\n" for host in hosts), encoding="utf-8")
    given = {"hostfile": str(file), "workspace": str(folder / "runs"), "master_port": free_port(), **settings}
    findings = check_hosts(Preflight.model_validate(given))
    assert list((folder / "runs").iterdir()) == []  # nothing is left behind
    return {(finding.host, finding.check): finding for finding in findings}


def failures(findings: dict[tuple[str, str], Finding]) -> set[tuple[str, str]]:
    return {key for key, finding in findings.items() if finding.state == "failed"}


def test_hosts_that_are_alike_pass_and_their_bandwidth_is_measured(check: Path) -> None:
    findings = found(check, "127.0.0.1 slots=1", "localhost slots=1", interface="lo")
    assert failures(findings) == set()
    for host in ("127.0.0.1", "localhost"):
        assert findings[host, "workspace"].detail == f"{check / 'runs'} is shared"
        assert findings[host, "interface"].detail == "lo has 127.0.0.1"
        assert f"torch {versions()['torch']}" in findings[host, "versions"].detail
        assert findings[host, "bandwidth"].state == "ok"
        assert float(findings[host, "bandwidth"].detail.split(" MB/s")[0].replace(",", "")) > 0
    assert findings["127.0.0.1", "master port"].detail.endswith(" is free")
    assert ("localhost", "master port") not in findings
    raise_failures(list(findings.values()))


@pytest.mark.parametrize(
    ("host", "checked", "detail", "advice"),
    [
        ("refused", "ssh", "Connection refused", "start sshd there, or name its port with --ssh-port"),
        ("locked", "ssh", "Permission denied", "ssh-copy-id locked"),
        ("unknown", "ssh", "Host key verification failed", "ssh unknown"),
        ("no-pdsh", "pdsh", "exit code 255", "pdsh -S -w no-pdsh true"),
        ("bare", "environment", "No module named backend.host_facts", "must be there as they are here"),
        ("older", "versions", "deepspeed 0.1.2, here", "install the same versions on every host"),
        ("unshared", "workspace", "is not the same folder as here", "mount the folder of the runs there"),
    ],
)
def test_a_host_that_fails_is_named_with_what_to_do(
    check: Path, host: str, checked: str, detail: str, advice: str
) -> None:
    findings = found(check, "good slots=1", f"{host} slots=1")
    assert failures(findings) == {(host, checked)}
    finding = findings[host, checked]
    assert detail in finding.detail
    assert advice in finding.advice
    assert findings["good", "bandwidth"] == Finding("good", "bandwidth", "skipped", "another check failed")
    with pytest.raises(UserError, match=f"host {host}, {checked}: "):
        raise_failures(list(findings.values()))


def test_a_host_that_does_not_answer_holds_nobody_up(check: Path) -> None:
    findings = found(check, "good slots=1", "stuck slots=1", seconds=15)
    assert failures(findings) == {("stuck", "environment")}
    assert findings["stuck", "environment"].detail == "no answer within 15 s"


def test_hosts_without_gpus_skip_that_check_and_hosts_with_some_need_enough(check: Path) -> None:
    assert found(check, "good slots=9")["good", "GPUs"].state == "skipped"
    findings = found(check, "gpus slots=3", "good slots=1")
    assert failures(findings) == {("gpus", "GPUs"), ("good", "GPUs")}
    assert findings["gpus", "GPUs"].advice == "write slots=2 to the hostfile"
    assert found(check, "gpus slots=2")["gpus", "GPUs"].detail == "2 for 2 processes"


def test_one_host_has_nobody_to_measure_with(check: Path) -> None:
    assert found(check, "good slots=1")["good", "bandwidth"].detail == "there is only one host"


def test_a_taken_port_and_a_missing_interface_are_found(check: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        findings = found(check, "good slots=1", interface="ib7", master_port=taken.getsockname()[1])
    assert failures(findings) == {("good", "master port"), ("good", "interface")}
    assert "lo" in findings["good", "interface"].advice
    assert findings["good", "master port"].advice == "name a free one with --master-port"


def test_a_machine_without_pdsh_says_so(check: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (check / "tools" / "pdsh").unlink()
    for tool in ("sh", "env", "sed", "sleep"):
        source = next(place for place in ("/bin", "/usr/bin") if (Path(place) / tool).exists())
        (check / "tools" / tool).symlink_to(Path(source) / tool)
    monkeypatch.setenv("PATH", str(check / "tools"))
    findings = found(check, "good slots=1")
    assert findings["good", "pdsh"].detail == "pdsh is not installed here"


def test_a_workspace_that_is_not_there_is_refused(check: Path) -> None:
    with pytest.raises(UserError, match="gone: is not a folder; make it on a file system that all hosts share"):
        found(check, "good slots=1", workspace=str(check / "gone"))
