"""Train a model. Run it by path, as a module, or under a launcher.

deepspeed --num_gpus 2 backend/train.py --job job.json
deepspeed --num_gpus 2 backend/train.py --model FOLDER --data.train reviews.csv --schedule.learning_rate 2e-5
torchrun --nproc_per_node 2 -m backend.train --job runs/ID/job.json --resume
python backend/train.py --help
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run by path: the repository root belongs on sys.path, backend/ does not
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from backend.arguments import parse
from backend.console import fail
from backend.errors import EXIT_CODE, UserError
from backend.rank import connect, disconnect, is_main

ALLOCATION = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"  # the second is the older name


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the arguments say; return the exit code: 0, 2 for what the user can put right, 75 to requeue."""
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        _let_blocks_grow()
        from backend.session import train  # not before the arguments are known to be right: this imports torch

        return train(arguments, connect())
    except UserError as error:
        if is_main():
            fail(error)
        return EXIT_CODE


def _let_blocks_grow() -> None:
    """Tell torch's allocator on GPUs to let its blocks grow; else up to a third of what is used lies idle between them.

    It is read when torch is imported. What the user has set stays.
    """
    if not any(name in os.environ for name in ALLOCATION):
        os.environ[ALLOCATION[0]] = "expandable_segments:True"


if __name__ == "__main__":
    code = main()
    disconnect()
    sys.exit(code)
