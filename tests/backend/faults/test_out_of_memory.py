"""Memory that there is not, for real: an allocator at its limit, and the kernel's own killer."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from backend import launch
from backend.errors import UserError
from backend.out_of_memory import is_out_of_memory, kernel_kills
from backend.phases import Phases, last_phase
from backend.planning.remedies import changed, remedies
from backend.rundir import RunDir
from backend.spec import parse_job
from webui.retry_command import flags, helps

LAYERS = 8
WIDE = 2**16  # numbers between the two matrices of a feed-forward part: 1 MB of each token in each layer
ADDRESSES = 7 * 2**30
CGROUPS = Path("/sys/fs/cgroup/memory")
ENTER = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.executable, sys.argv[2:])"


@pytest.fixture(scope="module")
def wide_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    config = BertConfig.from_pretrained(tiny_model)
    config.num_hidden_layers = LAYERS
    config.intermediate_size = WIDE
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture
def run(wide_model: Path, tiny_data: Path, tmp_path: Path) -> RunDir:
    """Return a run whose batches need more than there is."""
    job = {
        "model": str(wide_model),
        "data": {"train": str(tiny_data)},
        "task": {"name": "text-classification", "max_length": 32},
        "schedule": {"batch_size": 48, "steps": 3},
        "precision": "fp32",
    }
    return RunDir.create(tmp_path / "runs", parse_job(job))


def test_the_words_of_torchs_own_allocator_are_known() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("the size of tensor a must match that of b"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_kills_are_counted_by_what_the_kernel_writes(tmp_path: Path) -> None:
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 7\noom_kill 3\n")
    assert kernel_kills(counters) == 3
    assert kernel_kills(tmp_path / "nothing") == 0


def test_a_phase_outlives_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from backend.phases import Phases\n"
        "ranks = [Phases(Path(sys.argv[1]), rank, 2) for rank in (0, 1)]\n"
        "ranks[0].enter('data'); ranks[1].enter('backward'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "phases")], cwd=launch.ROOT, check=False)
    assert [last_phase(tmp_path / "phases", rank) for rank in (0, 1, 2)] == ["data", "backward", ""]
    assert last_phase(tmp_path / "no such file", 0) == ""
    assert last_phase(_begun(tmp_path / "new"), 0) == "load"


def _begun(path: Path) -> Path:
    Phases(path, 0, 1)
    return path


def test_a_run_whose_allocator_gives_no_more_says_where_and_what_helps(run: RunDir) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, hard))
    try:
        done = subprocess.run([*supervisor(run)], cwd=launch.ROOT, check=False, capture_output=True)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert done.returncode != 0
    is_told(run, "forward", "backward")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Yield a group of processes that get 2 GiB together."""
    if os.geteuid() != 0 or not (CGROUPS / "memory.limit_in_bytes").is_file():
        pytest.skip("needs root and the memory controller of cgroups (v1)")
    folder = CGROUPS / f"tunewright-{os.getpid()}"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(str(2 * 2**30))
    yield folder
    folder.rmdir()


def test_a_run_that_the_kernel_kills_says_where_and_what_helps(run: RunDir, cgroup: Path) -> None:
    command = [sys.executable, "-c", ENTER, str(cgroup / "cgroup.procs"), *supervisor(run)]
    subprocess.run(command, cwd=launch.ROOT, check=False, capture_output=True)
    is_told(run, "forward", "backward", "optimizer")
    assert "the kernel killed it" in run.stored_status().message


def supervisor(run: RunDir) -> list[str]:
    return [sys.executable, "-m", "backend.launch", str(run.path), "1"]


def is_told(run: RunDir, *phases: str) -> None:
    status = run.stored_status()
    assert status.state == "failed"
    assert status.out_of_memory
    assert any(f"rank 0 ran out of memory in the phase {phase}: " in status.message for phase in phases), status.message
    first, second, *_ = helps(run)
    assert flags(first) == "--schedule.accumulation_steps 2"
    assert flags(second) == "--schedule.activation_checkpointing"
    assert first.saves is not None
    assert first.saves > 10**9


def test_what_helps_leaves_the_training_as_it_is_where_it_can(run: RunDir) -> None:
    found = remedies(run.job, 2, "cpu")
    assert [flags(one) for one in found[:2]] == [
        "--schedule.accumulation_steps 2",
        "--schedule.activation_checkpointing",
    ]
    assert flags(found[-1]) == "--tuning.name lora"
    assert changed(run.job, found[-1].changes).tuning.name == "lora"


def test_a_run_that_did_not_run_out_of_memory_is_not_retried(run: RunDir) -> None:
    with pytest.raises(UserError, match="did not run out of memory; it is queued"):
        helps(run)
