"""The loss scale of fp16, and how long it has held, as any engine can take them over from any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from backend.files import write_json

FILE = "loss_scale.json"
COUNTS = ("cur_iter", "last_overflow_iter", "cur_hysteresis")  # DeepSpeed's names, of both of its scalers


def scale_of(scaler: Any) -> dict[str, Any]:
    """Return the state of torch's scaler, or of a DeepSpeed optimizer that scales."""
    if isinstance(scaler, torch.amp.GradScaler):
        state = scaler.state_dict()
        return {"scale": state.get("scale"), "growth": state.get("_growth_tracker", 0)}
    own = _scaler_of(scaler)
    found = {name: value for name in COUNTS if (value := getattr(own, name, None)) is not None}
    return {**found, "scale": getattr(own, "cur_scale", None)}


def save_scale(state: Mapping[str, Any], folder: Path) -> None:
    """Write the state of a scaler."""
    write_json(folder / FILE, state)


def load_scale(scaler: Any, folder: Path) -> None:
    """Take over the scale, and the counts if the same kind of scaler has written them."""
    saved = json.loads((folder / FILE).read_text(encoding="utf-8"))
    if saved["scale"] is None:
        return
    if not isinstance(scaler, torch.amp.GradScaler):
        own = _scaler_of(scaler)
        for name, value in {"cur_scale": saved["scale"], **{name: saved.get(name) for name in COUNTS}}.items():
            if value is not None and hasattr(own, name):
                setattr(own, name, value)
    elif scaler.is_enabled():
        tracker = saved.get("growth", 0)
        scaler.load_state_dict({**scaler.state_dict(), "scale": saved["scale"], "_growth_tracker": tracker})


def _scaler_of(optimizer: Any) -> Any:
    return getattr(optimizer, "loss_scaler", None) or getattr(optimizer, "loss_scale_config", None)
