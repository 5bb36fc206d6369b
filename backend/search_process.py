"""A search as a process of its own, which outlives the page that started it. Run as a module, it is that process."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from backend import launch
from backend.errors import EXIT_CODE, UserError
from backend.search_dir import SearchDir

POLL_SECONDS = 0.05


def start_detached(folder: SearchDir, parallel: int) -> None:
    """Begin a search, or go on with it, in a process that no page can take with it.

    Raises UserError if a process is at work on it already, or if it may not have so many runs at a time.
    """
    if parallel < 1:
        raise UserError(f"the number of runs at a time is {parallel}; it must be 1 or more")
    if folder.at_work:
        raise UserError(f"{folder.path}: a process is at work on this search already")
    arguments = [sys.executable, "-m", "backend.search_process", str(folder.path), str(parallel)]
    process = launch.detached(arguments, folder.log_file)
    while not folder.at_work and process.poll() is None:  # else it would look as if nobody had begun
        time.sleep(POLL_SECONDS)
    # Its end is taken note of, so that it does not stay in the process table.
    threading.Thread(target=process.wait, daemon=True).start()


def main(path: str, parallel: str) -> int:
    """Run a search to its end; what the user can put right is one line in its log."""
    from backend.search import Search

    try:
        Search(SearchDir(Path(path))).run(int(parallel))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
