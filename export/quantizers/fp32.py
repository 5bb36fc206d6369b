"""fp32: the weights as they were trained."""

from __future__ import annotations

import shutil
from pathlib import Path

from export.interfaces import Quantizer


class Fp32(Quantizer):
    """Keep every weight."""

    title = "fp32"
    tolerance = 1e-4

    def quantize(self, source: Path, destination: Path, *, stepwise: bool = False) -> dict[str, str | bool]:
        """Copy the model, with the file that holds the weights of a large one."""
        for file in source.parent.glob(f"{source.name}*"):
            shutil.copyfile(file, destination.with_name(destination.name + file.name.removeprefix(source.name)))
        return {"weights": "float32"}
