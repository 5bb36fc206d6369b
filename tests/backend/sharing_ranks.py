"""Ranks that load a model under ZeRO-3 and do no more: what they have then, and the memory that it took."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import forked_ranks

EVERY = 0.001  # seconds
M_MMAP_THRESHOLD = -3  # glibc's number


class Loaded(NamedTuple):
    """How a rank got its shares."""

    differing: list[str]  # weights that are not those of one process
    peak: float  # bytes of its own, at most, beyond what it had before
    whole: int  # bytes of the weights in full precision


def load(ranks: int, jobs: Sequence[Sequence[str]], folder: Path) -> list[list[Loaded]]:
    """Load the models of jobs in ranks; return what each rank has found of each job."""
    ours, theirs = zip(*(forked_ranks.FORKS.Pipe() for _ in range(ranks)), strict=True)
    processes = [
        forked_ranks.FORKS.Process(target=_work, args=(place, jobs, folder, pipe))
        for place, pipe in zip(forked_ranks.places(ranks), theirs, strict=True)
    ]
    for process in processes:
        process.start()
    for pipe in theirs:
        pipe.close()
    found = [pipe.recv() for pipe in ours]
    for process in processes:
        process.join()
    return found


def _work(place: dict[str, str], jobs: Sequence[Sequence[str]], folder: Path, answers: object) -> None:
    os.environ |= place
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**16)  # what is freed goes back at once, and is not counted
    from backend.rank import connect, disconnect

    connection = connect()
    found = [_load(argv, folder / f"{number}-{place['RANK']}", connection) for number, argv in enumerate(jobs)]
    answers.send(found)  # type: ignore[attr-defined]
    disconnect()


def _load(argv: Sequence[str], folder: Path, connection: object) -> Loaded:
    import torch
    from deepspeed.runtime.zero import GatheredParameters

    from backend import deepspeed_config
    from backend.arguments import parse
    from backend.data.prepare import prepare
    from backend.model import as_encoder, load_tokenizer, tuned_model
    from backend.sharing_out import share_out
    from backend.sources import model_source
    from backend.unread import unread

    job, group = parse(argv).job, connection.group  # type: ignore[attr-defined]
    encoder = as_encoder(load_tokenizer(job), model_source(job.model))
    prepared = prepare(job, encoder, folder, lambda *_: None)
    config = deepspeed_config.resolve(deepspeed_config.read("zero3"), job, group.ranks, "fp32", folder)
    held = []

    def shared() -> torch.nn.Module:
        with unread():
            model = tuned_model(job, prepared)
        share_out(model, config, group)
        held.append(model)
        return model

    peak = _peak(shared)
    (model,) = held
    whole = tuned_model(job, prepared)
    differing = []
    for (name, mine), one in zip(model.named_parameters(), whole.parameters(), strict=True):
        with GatheredParameters([mine]):
            if mine.requires_grad != one.requires_grad or not torch.equal(mine.detach(), one.detach()):
                differing.append(name)
    buffers = dict(whole.named_buffers())
    differing += [name for name, mine in model.named_buffers() if not torch.equal(mine, buffers[name])]
    return Loaded(differing, peak, sum(weight.numel() * 4 for weight in whole.parameters()))


def _peak(work: Callable[[], object]) -> float:
    """Return the most memory of its own that work adds to a process, without the pages of files."""
    before, most, done = _own(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], _own())
            time.sleep(EVERY)

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    done.set()
    thread.join()
    return most[0] - before


def _own() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
