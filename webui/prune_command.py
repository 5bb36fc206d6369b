"""`tunewright prune`: a smaller model of a finished run, and its recovery."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from backend import launch
from backend.errors import UserError
from backend.follow import follow
from backend.rundir import RunDir


def prune_command(run_path: Path, heads: float, neurons: float, layers: int, recover: float) -> None:
    """Prune a run, and train what is left for some epochs. Raises UserError for what is wrong with the flags."""
    from pydantic import ValidationError

    from backend.pruning.pruning import prune_run, recovery
    from backend.pruning.shares import Shares

    if recover < 0:
        raise UserError(f"--recover is {recover:g}; it must be 0 or more epochs")
    try:
        shares = Shares(heads=heads, neurons=neurons, layers=layers)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(f"--{fault['loc'][0]}: {fault['msg']}, not {fault['input']}") from error
    console = Console()
    pruned = prune_run(run_path, shares, lambda message: console.print(f"  {message}"))
    for layer, (left, inner) in enumerate(zip(pruned.kept.heads, pruned.kept.neurons, strict=True)):
        number = pruned.kept.layers[layer]
        console.print(f"  layer {number}: {len(left)} heads, {len(inner)} neurons", highlight=False)
    share = pruned.left / pruned.weights
    console.print(f"{pruned.folder}: {pruned.left / 1e6:.1f} M weights, {share:.0%} of what there was", soft_wrap=True)
    run = RunDir.open(run_path)
    if not recover:
        console.print(f"train it, for it has lost: tunewright prune {run_path} ... --recover 2", soft_wrap=True)
        return
    job = recovery(run, recover)
    ranks = run.status().ranks
    launch.check(job, ranks)
    follower = RunDir.create(run.path.parent, job)
    launch.start(follower, ranks)
    follow(follower)
    console.print(f"export it: tunewright export {follower.path}", soft_wrap=True)
