"""Trains several jobs one after another on the same ranks; tests start it under the deepspeed launcher.

Starting ranks takes longer than training a tiny model, so one start serves many jobs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backend.arguments import parse
from backend.rank import connect, disconnect
from backend.session import train


def main() -> None:
    """Read a JSON list of argument lists and train each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--local_rank")
    parser.add_argument("jobs", type=Path)
    jobs = json.loads(parser.parse_args().jobs.read_text(encoding="utf-8"))
    connection = connect()
    for argv in jobs:
        train(parse(argv), connection)
    disconnect()


if __name__ == "__main__":
    main()
