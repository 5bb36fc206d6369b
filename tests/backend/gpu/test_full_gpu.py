"""A GPU that gives no more, for real: the tests hold most of its memory themselves, so nothing else can run there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import short
from transformers import AutoTokenizer, BertConfig, BertModel

from webui.retry_command import flags, helps

LEFT = 3 * 2**30  # bytes
WIDE = 2**16  # numbers between the two matrices of a feed-forward part: 1 MB of each token in each layer


@pytest.fixture
def nearly_full() -> Iterator[None]:
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(free - LEFT, dtype=torch.uint8, device="cuda")
    yield
    del held
    torch.cuda.empty_cache()


@pytest.mark.parametrize("file", ["", "zero2"], ids=["plain", "zero2"])
@pytest.mark.usefixtures("nearly_full")
def test_a_full_gpu_is_told_with_its_phase_and_what_helps(
    file: str, tiny_model: Path, tiny_data: Path, train: Any, tmp_path: Path
) -> None:
    wide = tmp_path / "wide"
    config = BertConfig.from_pretrained(tiny_model)
    config.num_hidden_layers, config.intermediate_size = 8, WIDE
    BertModel(config).save_pretrained(wide)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(wide)
    settings = {**short(wide, tiny_data, tmp_path / "runs", 3), "schedule.batch_size": 48}
    run = train({**settings, **({"deepspeed": file} if file else {})}, code=1)
    status = run.status()
    assert status.out_of_memory
    phases = ("forward", "backward")
    assert any(f"rank 0 ran out of memory in the phase {one}: CUDA out of memory" in status.message for one in phases)
    first, *_ = helps(run)
    assert flags(first) == "--schedule.accumulation_steps 2"
    assert first.saves > 10**9
