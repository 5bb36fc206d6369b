"""What a page that others can reach keeps from them: the files of the machine it runs on."""

from __future__ import annotations

from pathlib import Path

from backend import deepspeed_config
from backend.data.samples import PREFIX
from backend.errors import UserError
from backend.sources import PACKAGE
from backend.spec import JobSpec, chosen
from backend.trackers import TRACKERS

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def refuse_paths_of_the_machine(job: JobSpec, workspace: Path) -> None:
    """Raise UserError if a setting names a file or folder outside the workspace, whether it exists or not.

    Or if it chooses a tracker that may send the machine's keys to an address of the visitor's.
    """
    for key, tracker, _ in chosen("trackers", TRACKERS, job.trackers):
        if not tracker.usual:
            raise UserError(f"{key}: this page is open to others, so it tells no tracker of its runs; switch it off")
    named = [(f"data.{name}", str(getattr(job.data, name))) for name in ("train", "validation", "test")]
    named.append(("model", job.model))
    if job.deepspeed not in deepspeed_config.names():
        named.append(("deepspeed", job.deepspeed))
    for key, method, options in job.methods():
        for place in method.places:
            found = getattr(options, place)
            named += [(f"{key}.{place}", value) for value in ([found] if isinstance(found, str) else found)]
    for key, value in named:
        if value and not value.startswith((PREFIX, PACKAGE)) and _is_foreign(value, workspace):
            raise UserError(
                f'{key} "{value}": this page is open to others, so it reads no files of its machine; '
                "upload the file, or name a sample or something on the Hugging Face hub"
            )


def _is_foreign(value: str, workspace: Path) -> bool:
    path = Path(value).expanduser()
    looks_like_one = path.is_absolute() or value.startswith(".") or path.exists()
    return looks_like_one and not path.resolve().is_relative_to(workspace.resolve())
