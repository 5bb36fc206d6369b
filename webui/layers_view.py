"""What of a model is trained, and what it takes, as HTML."""

from __future__ import annotations

from backend.layers import Layer, LayerTable, Layout
from webui import render, run_view

UNITS = ("B", "kB", "MB", "GB", "TB")
COLUMNS = ("part", "parameters", "trained", "weights", "gradients", "optimizer")


def layers_html(table: LayerTable) -> str:
    """Return the sums, then a row for each layer."""
    total = table.total
    tiles = {
        "parameters": f"{total.parameters:,}",
        "trained": f"{total.trainable:,} ({total.trainable / max(1, total.parameters):.1%})",
        "memory of each process": size(total.weights + total.gradients + total.optimizer),
    }
    rows = [cells(layer) for layer in (*table.layers, total)]
    return run_view.tiles(tiles) + render.note(explained(table.layout)) + render.table(COLUMNS, rows)


def cells(layer: Layer) -> list[str | int]:
    """Return a row as cells, in the order of COLUMNS."""
    amounts = (layer.weights, layer.gradients, layer.optimizer)
    return [layer.name, layer.parameters, layer.trainable, *(size(amount) for amount in amounts)]


def explained(layout: Layout) -> str:
    """Return what the bytes are those of."""
    over = f"over {layout.ranks} processes" if layout.ranks > 1 else "of one process"
    how = f"ZeRO stage {layout.stage} {over}" if layout.launched else "one process"
    away = [f"the {what} kept on {device}" for what, device in layout.offload.items()]
    if layout.copy_parts:
        away.append(f"a second copy of the weights in each group of {layout.copy_parts}")
    kept = f" with {' and '.join(away)}" if away else ""
    return (
        f"Bytes of each process: {how}, {layout.precision}, Adam{kept}. What the batches need comes on top: it grows "
        "with their size and length."
    )


def size(amount: float) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    for unit in UNITS[:-1]:
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == UNITS[0] or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} {UNITS[-1]}"
