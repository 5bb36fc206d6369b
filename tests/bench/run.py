"""All measurements of speed, training first. Nothing fails here when it is slow: the machine decides about that.

python tests/bench/run.py           the figures to believe, on an otherwise idle machine
python tests/bench/run.py --quick   a few rows and one turn each, to see that everything runs
"""

from __future__ import annotations

import argparse

import frozen
import generation
import inference
import ranks
import training
from rich.console import Console


def main() -> None:
    """Measure and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rows and one turn each")
    parser.add_argument("--turns", type=int, default=training.TURNS, help="turns of every contestant in training")
    arguments = parser.parse_args()
    training.TURNS = arguments.turns
    if arguments.quick:
        training.TURNS, training.ROWS = 1, 160
        generation.TURNS = 1
        inference.TURNS, inference.SHAPES = 1, [(1, 16), (8, 64)]
    console = Console()
    for part in (training, ranks, frozen, inference, generation):
        found = part.measure(console.print)
        for table in part.tables(found):
            console.print(table)


if __name__ == "__main__":
    main()
