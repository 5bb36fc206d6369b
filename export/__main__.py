"""Export a finished run, or serve a bundle.

python -m export runs/ID --precision int8 [--max-drop 0.01]
python -m export serve runs/ID/export/int8 [--host 127.0.0.1] [--port 8000]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.errors import EXIT_CODE, UserError
from export.cli import export_command, serve_command
from export.quantizers import QUANTIZERS


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    try:
        if arguments[:1] == ["serve"]:
            given = _serve_parser().parse_args(arguments[1:])
            serve_command(given.bundle, given.host, given.port)
        else:
            given = _export_parser().parse_args(arguments)
            export_command(given.run, given.precision, given.max_drop)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command line prints
        return EXIT_CODE
    return 0


def _export_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m export",
        description="Export a finished run to a proven ONNX bundle.",
        epilog="To serve a bundle: python -m export serve BUNDLE [--host 127.0.0.1] [--port 8000]",
    )
    parser.add_argument("run", type=Path, help="the run directory, such as runs/ID")
    parser.add_argument("--precision", choices=list(QUANTIZERS), default="int8")
    parser.add_argument("--max-drop", type=float, default=None, help="of the metric; default: what the task allows")
    return parser


def _serve_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m export serve", description="Serve a bundle over HTTP.")
    parser.add_argument("bundle", type=Path, help="the bundle, such as runs/ID/export/int8")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
