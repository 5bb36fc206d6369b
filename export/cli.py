"""What the command line does: export a run and show the proof; serve a bundle."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from export.bundle import export_run
from export.manifest import Proof, read_manifest


def export_command(run: Path, precision: str, max_drop: float | None) -> None:
    """Export a run and print the proof, the sizes and the seconds."""
    console = Console()
    start = time.monotonic()
    with console.status(f"exporting {run}"):
        bundle = export_run(run, precision, max_drop, report=lambda message: console.print(f"  {message}"))
    manifest = read_manifest(bundle)
    console.print(proof_table(manifest.proof))
    size = sum(file.bytes for file in manifest.files.values())
    console.print(f"{bundle}: {size / 1e6:.1f} MB in {time.monotonic() - start:.1f} s", soft_wrap=True)
    console.print(f"serve it: python -m export serve {bundle}", soft_wrap=True)


def proof_table(proof: Proof) -> Table:
    """Return torch and the ONNX files side by side."""
    table = Table(title=f"Proof on {proof.told()}")
    table.add_column("")
    for heading in (proof.metric, "largest difference of an output", "same answer as torch"):
        table.add_column(heading, justify="right")
    for name, figures in proof.figures.items():
        table.add_row(
            name, f"{figures.metrics[proof.metric]:.4f}", f"{figures.difference:.2g}", f"{figures.agreement:.1%}"
        )
    return table


def serve_command(bundle: Path, host: str, port: int) -> None:
    """Serve a bundle until interrupted."""
    import uvicorn

    from export.predict import OnnxPredictor
    from export.server import create_app

    uvicorn.run(create_app(OnnxPredictor(bundle)), host=host, port=port)
