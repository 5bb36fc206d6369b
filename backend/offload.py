"""What a DeepSpeed file keeps away from the device that trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLACES = {"optimizer": "offload_optimizer", "weights": "offload_param"}  # what -> its section of zero_optimization


def offloaded(config: Mapping[str, Any]) -> dict[str, str]:
    """Return optimizer and weights with the device that keeps them instead, cpu or nvme, as far as a file says so."""
    zero = config.get("zero_optimization", {})
    devices = {what: str((zero.get(section) or {}).get("device", "none")) for what, section in PLACES.items()}
    return {what: device for what, device in devices.items() if device != "none"}
