"""Active learning: which rows without targets a finished run is least sure of, for people to label first.

Settles 2009, Active Learning Literature Survey: entropy and margin; Houlsby et al. 2011, arXiv:1112.5745: BALD, asked
with dropout as in Gal et al. 2017, arXiv:1703.02910.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from backend.data.batching import by_length, pad
from backend.data.prepared import load_prepared
from backend.errors import UserError
from backend.interfaces import Array, Context, Features, Row, Task
from backend.rundir import RunDir
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from backend.predict import TorchEngine

By = Literal["entropy", "margin", "bald"]
BATCH = 32
PASSES = 10  # with dropout
SEED = 0  # of the dropout
RUN, BUCKETS = 4, 4096  # characters of a run, and the numbers that runs are hashed to
POOL = 5  # times as many rows as are wanted, from which different ones are chosen


class Doubt:
    """A finished run that tells how unsure it is. Raises UserError if it cannot."""

    def __init__(self, run: RunDir) -> None:
        from backend.predict import TorchEngine

        self.task: Task = TASKS[run.job.task.name]
        if not (run.model / "config.json").is_file():
            raise UserError(f"{run.path}: has no model yet (it is {run.status().state}); wait until it has finished")
        self.context: Context = load_prepared(run.data).context(Tokenizer.load(run.model))
        self.targets = self.task.any_target(self.context.labels)
        if not self.targets:
            raise UserError(f"{run.path}: {self.task.title} has no classes to be unsure of; rank rows of another task")
        self._engine: TorchEngine = TorchEngine(run.model, self.task)

    def of(self, rows: Sequence[Row], by: By) -> Array:
        """Return how unsure the model is of each row: the mean over its choices, such as the tags of its words."""
        import torch

        encoded = self.task.encode([{**row, **self.targets} for row in rows], self.context)
        numbered = [(number, window) for number, windows in enumerate(encoded) for window in windows]
        sums, counts = np.zeros(len(rows)), np.zeros(len(rows))
        torch.manual_seed(SEED)
        for batch in by_length([self.task.length(window) for _, window in numbered], BATCH):
            windows = [numbered[place][1] for place in batch]
            sizes = [self.task.target_count(window) for window in windows]
            found = np.split(self._unsure(windows, by), np.cumsum(sizes)[:-1])
            for place, doubts in zip(batch, found, strict=True):
                sums[numbered[place][0]] += doubts.sum()
                counts[numbered[place][0]] += len(doubts)
        if by == "bald" and not np.any(sums > 1e-9):
            raise UserError("--by bald asks with dropout, but this model has none; choose entropy or margin")
        scores: Array = sums / np.maximum(counts, 1)
        return scores

    def _unsure(self, windows: Sequence[Features], by: By) -> Array:
        """Return how unsure the model is of each choice of some windows, in their order."""
        chances = list(self._chances(windows, PASSES if by == "bald" else 1, dropout=by == "bald"))
        mean = sum(chances[1:], start=chances[0]) / len(chances)
        if by == "margin":
            best = mean.topk(min(2, mean.shape[-1]), dim=-1).values
            doubts = 1 - (best[:, 0] - best[:, -1])
        else:
            doubts = _entropy(mean)
            if by == "bald":  # equation 2 of Houlsby et al.: what the passes disagree about
                doubts -= sum(map(_entropy, chances[1:]), start=_entropy(chances[0])) / len(chances)
        result: Array = doubts.cpu().numpy()
        return result

    def _chances(self, windows: Sequence[Features], passes: int, *, dropout: bool) -> Iterator[Tensor]:
        """Yield the chance of every class for each choice, (choices, classes), as often as asked."""
        import torch

        from backend.model import input_names

        kept = [{key: one[key] for key in one if key not in self.task.extras} for one in windows]
        arrays = pad(kept, self.context.tokenizer.pad_id, self.task.targets)
        model = self._engine.model
        device = next(model.parameters()).device
        tensors = {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}
        targets = {key: tensors.pop(key) for key in self.task.targets}
        inputs: dict[str, Any] = {name: tensors[name] for name in input_names(model, tensors)}
        model.train(dropout)
        try:
            with torch.inference_mode():
                for _ in range(passes):
                    yield self.task.decisions(model(**inputs), targets).logits.double().softmax(dim=-1)
        finally:
            model.train(False)


def most_doubtful(rows: Sequence[str], doubts: Array, count: int, *, diverse: bool) -> list[int]:
    """Return the numbers of the rows to label, the most doubtful first.

    Diverse ones are picked from several times as many, each the one least like those before it (k-center greedy, Sener
    and Savarese 2018, arXiv:1708.00489), by the runs of characters of the texts.
    """
    order = np.argsort(-doubts, kind="stable")
    if not diverse:
        return [int(number) for number in order[:count]]
    pool = order[: POOL * count]
    vectors = np.stack([_vector(rows[number]) for number in pool])
    picked = [0]
    likest = vectors @ vectors[0]
    while len(picked) < min(count, len(pool)):
        likest[picked[-1]] = np.inf
        picked.append(int(np.argmin(likest)))
        likest = np.maximum(likest, vectors @ vectors[picked[-1]])
    return [int(pool[number]) for number in picked]


def _entropy(chances: Tensor) -> Tensor:
    import torch

    entropies: Tensor = torch.special.entr(chances).sum(dim=-1)
    return entropies


def _vector(text: str) -> Array:
    """Return how often each run of characters stands in a text, as a vector of length 1."""
    counts = np.zeros(BUCKETS, dtype=np.float32)
    for start in range(max(1, len(text) - RUN + 1)):
        counts[zlib.crc32(text[start : start + RUN].lower().encode()) % BUCKETS] += 1
    vector: Array = counts / np.linalg.norm(counts)
    return vector
