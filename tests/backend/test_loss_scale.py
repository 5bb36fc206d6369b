from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaleConfig

from backend.loss_scale import load_scale, save_scale, scale_of


def torchs(scale: float) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=scale)


def of_zero(scale: float) -> SimpleNamespace:
    """Return what is like a ZeRO optimizer in this: it holds a scaler."""
    scaler = DynamicLossScaler(scale, 1000, 1, delayed_shift=2, consecutive_hysteresis=False)
    return SimpleNamespace(loss_scaler=scaler)


def of_stage_0(scale: float) -> SimpleNamespace:
    arguments = {"init_scale": scale, "scale_window": 1000, "min_scale": 1, "delayed_shift": 2}
    config = LossScaleConfig(torch.float16, True, 0, arguments)
    return SimpleNamespace(loss_scale_config=config)


def scale(scaler: object) -> float:
    if isinstance(scaler, torch.amp.GradScaler):
        return float(scaler.get_scale())
    own = getattr(scaler, "loss_scaler", None) or getattr(scaler, "loss_scale_config", None)
    return float(own.cur_scale)  # type: ignore[union-attr]


@pytest.mark.parametrize("writer", [torchs, of_zero, of_stage_0])
@pytest.mark.parametrize("reader", [torchs, of_zero, of_stage_0])
def test_every_scaler_takes_over_the_scale_of_every_other(tmp_path: Path, writer: object, reader: object) -> None:
    assert callable(writer)
    assert callable(reader)
    save_scale(scale_of(writer(1024.0)), tmp_path)
    restored = reader(65536.0)
    load_scale(restored, tmp_path)
    assert scale(restored) == 1024.0


def test_a_scaler_goes_on_counting_where_it_was(tmp_path: Path) -> None:
    first = of_zero(1024.0)
    vars(first.loss_scaler).update(cur_iter=7, last_overflow_iter=4, cur_hysteresis=1)
    save_scale(scale_of(first), tmp_path)
    second = of_zero(65536.0)
    load_scale(second, tmp_path)
    assert vars(second.loss_scaler) == vars(first.loss_scaler)


def test_full_precision_has_no_scale_to_take_over(tmp_path: Path) -> None:
    save_scale(scale_of(torch.optim.AdamW([torch.zeros(1)])), tmp_path)
    restored = of_zero(65536.0)
    load_scale(restored, tmp_path)
    assert scale(restored) == 65536.0
