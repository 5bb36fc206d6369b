"""Frozen layers are computed once: their output for every training example lies in files, and training looks it up.

The files are written before the first step, each rank its share of the examples, and a resumed session takes them as
they are. While a batch is looked up, all frozen layers return what is in the files; the embeddings are computed, for
the model makes its attention masks from them, and nobody reads the result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backend.data.batching import by_length
from backend.depth import depths, layers
from backend.errors import UserError
from backend.files import write_json
from backend.interfaces import IGNORED, Array
from backend.methods import Batch, Found, Loss, Training

log = logging.getLogger("tunewright")

TOKENS = {"encoder": 8192, "decoder": 2048}  # of a batch that fills the files; a decoder's outputs are wide
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-5}  # of what is looked up, relative to what is computed
COARSE = 0.05  # the same for half precision, where the shape of a batch decides how its products are rounded
AS_NUMBERS = {2: (np.int16, torch.int16), 4: (np.int32, torch.int32), 8: (np.int64, torch.int64)}  # numpy has no bf16
PROVED = 8  # examples
OUTPUTS_OF_LAYERS = ("output_hidden_states", "output_attentions")
OFF = "set tuning.cache to off"


def cached(loss: Loss, training: Training, most_gb: float) -> Loss:
    """Return the loss that looks up the frozen layers, wherever all rows of a batch are examples as they were filled.

    A batch with other rows, or one that asks for the outputs of the layers, goes through the whole model. All ranks
    decide alike, for under ZeRO-3 they must meet in every module. Raises UserError if the model is not one for it.
    """
    lowest = _frozen(training)
    cache = FrozenCache(training, lowest, most_gb)
    cache.prove()

    def looked_up(batch: Batch) -> Found:
        states = cache.states(batch)
        ranks = training.ranks
        if ranks.sum([states is None])[0] if ranks.ranks > 1 else states is None:
            return loss(batch)
        assert states is not None  # noqa: S101 - the sum says so
        with cache.looked_up(states):
            return loss(batch)

    return looked_up


def _frozen(training: Training) -> list[nn.Module]:
    """Return the layers below the lowest weight that is trained."""
    model = training.model
    weights = dict(model.named_parameters())
    lowest = min(place for name, place in depths(model).items() if weights[name].requires_grad)
    stack = list(layers(model).values())
    if lowest < 2:
        part = "layer" if lowest else "embedding"
        raise UserError(f"tuning.cache keeps the output of frozen layers, but the lowest {part} is trained; {OFF}")
    return stack[: lowest - 1]


class FrozenCache:
    """The output of the lowest layers for every training example.

    Rank r has written the examples r, r + ranks, r + 2 ranks and so on, one after another: their tokens are the rows
    of a file of its own, and a checksum of what the model reads of each stands in another.
    """

    def __init__(self, training: Training, lowest: Sequence[nn.Module], most_gb: float) -> None:
        self._training = training
        self._lowest = lowest
        self._most_gb = most_gb
        self._lengths = training.examples.lengths.astype(np.int64)
        shares = [self._lengths[share :: training.ranks.ranks] for share in range(training.ranks.ranks)]
        self._starts = [np.concatenate(([0], np.cumsum(share))) for share in shares]
        self._folder = training.folder / f"frozen-{self._key()}"
        self._done = self._folder / "done.json"
        if not training.ranks.broadcast(self._done.is_file()):
            self._fill()
        about = json.loads(self._done.read_text(encoding="utf-8"))
        self._width: int = about["width"]
        self._in_tuple: bool = about["in_tuple"]
        self._dtype: torch.dtype = getattr(torch, about["dtype"])
        self._open()

    def _key(self) -> str:
        training = self._training
        parts = [len(self._lowest), training.ranks.ranks, training.model.config.to_json_string(use_diff=False)]
        weights = [str(weight.dtype) for weight in self._lowest[0].parameters()]
        text = json.dumps([*parts, weights, hashlib.sha256(self._lengths.tobytes()).hexdigest()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _open(self) -> None:
        number, _ = AS_NUMBERS[self._dtype.itemsize]
        self._states: list[Array] = []
        self._sums: list[Array] = []
        for share, starts in enumerate(self._starts):
            shape = (int(starts[-1]), self._width)
            path = self._folder / f"states-{share}.bin"
            self._states.append(np.memmap(path, number, "r", shape=shape) if shape[0] else np.zeros(shape, number))
            self._sums.append(np.load(self._folder / f"sums-{share}.npy"))

    def _fill(self) -> None:
        """Compute this rank's share of the examples, long ones together."""
        began, training = time.monotonic(), self._training
        ranks, rank = training.ranks.ranks, training.ranks.rank
        self._folder.mkdir(parents=True, exist_ok=True)
        mine = self._lengths[rank::ranks]
        rows = max(1, TOKENS.get(training.task.architecture, 2048) // int(self._lengths.max()))
        batches = list(by_length(mine.tolist(), rows))
        sums, file = np.zeros(len(mine), np.uint32), None
        for number in range(int(_most(training, len(batches)))):  # equally many on every rank
            places = batches[number] if number < len(batches) else []
            inputs, _ = self._tensors([place * ranks + rank for place in places] or [0])
            states = self._computed(inputs)
            if file is None:
                file = self._new_file(states)
                about = {"width": states.shape[-1], "dtype": str(states.dtype).removeprefix("torch.")}
            for row, place in enumerate(places):
                start, length = self._starts[rank][place], int(mine[place])
                file[start : start + length] = states[row, :length].view(AS_NUMBERS[states.itemsize][1]).numpy()
                sums[place] = _checksum(_rows(inputs), row, length)
        if isinstance(file, np.memmap):
            file.flush()
        np.save(self._folder / f"sums-{rank}.npy", sums)
        training.ranks.barrier()
        if rank == 0:
            write_json(self._done, {**about, "in_tuple": self._in_tuple})
            size, seconds = self._size(states) / 1e9, time.monotonic() - began
            log.info("frozen layers: computed once, %d of them, %.2f GB in %.0f s", len(self._lowest), size, seconds)
        training.ranks.barrier()

    def _size(self, states: Tensor) -> int:
        return int(self._lengths.sum()) * states.shape[-1] * states.itemsize

    def _new_file(self, states: Tensor) -> Array:
        """Make this rank's file. Raises UserError if all files together are larger than they may be."""
        size, rank = self._size(states), self._training.ranks.rank
        free = shutil.disk_usage(self._folder).free
        for room, name in ((self._most_gb * 1e9, "tuning.cache_gb is"), (free, f"the disk of {self._folder} has")):
            if size > room:
                raise UserError(
                    f"tuning.cache needs {size / 1e9:.2f} GB for {int(self._lengths.sum()):,} tokens, but {name} "
                    f"{room / 1e9:.2f}; make room, or {OFF}"
                )
        number, _ = AS_NUMBERS[states.itemsize]
        shape = (int(self._starts[rank][-1]), states.shape[-1])
        path = self._folder / f"states-{rank}.bin"
        return np.memmap(path, number, "w+", shape=shape) if shape[0] else np.zeros(shape, number)

    def _tensors(self, examples: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self._training.tensors(self._training.examples.features(examples))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Compute without dropout and without gradients."""
        model = self._training.model
        was_training = model.training
        model.train(mode=False)
        try:
            with torch.no_grad():
                yield
        finally:
            model.train(was_training)

    def _computed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return what the last of the layers puts out, (rows, tokens, features)."""
        found: list[Any] = []
        handle = self._lowest[-1].register_forward_hook(lambda _module, _inputs, output: found.append(output))
        try:
            with self._evaluating():
                self._training.probe(inputs)
        finally:
            handle.remove()
        (output,) = found
        self._in_tuple = isinstance(output, tuple)
        states, *more = output if isinstance(output, tuple) else (output,)
        if not isinstance(states, Tensor) or states.ndim != 3 or any(one is not None for one in more):
            kind = type(self._lowest[-1]).__name__
            raise UserError(f"tuning.cache: a {kind} hands on more than the states of its tokens; {OFF}")
        return states.cpu().contiguous()

    def states(self, batch: Batch) -> Tensor | None:
        """Return the states of a batch's tokens, on the device; None if they are not those that were filled."""
        ids: Tensor = batch.inputs["input_ids"]
        if any(batch.inputs.get(flag) for flag in OUTPUTS_OF_LAYERS):
            return None
        number, _ = AS_NUMBERS[self._dtype.itemsize]
        found = np.zeros((*ids.shape, self._width), number)
        if batch.examples:
            if len(batch.examples) != len(ids):
                return None
            rows, ranks = _rows(batch.inputs), len(self._starts)
            for row, example in enumerate(batch.examples):
                place, share = divmod(example, ranks)
                length, start = int(self._lengths[example]), self._starts[share][place]
                if length > ids.shape[1] or _checksum(rows, row, length) != self._sums[share][place]:
                    return None
                found[row, :length] = self._states[share][start : start + length]
        elif any(bool((target != IGNORED).any()) for target in batch.targets.values()):
            return None  # rows that are no examples, but count
        return torch.from_numpy(found).view(self._dtype).to(ids.device)

    @contextmanager
    def looked_up(self, states: Tensor) -> Iterator[None]:
        """Let all frozen layers return these states as long as this lasts."""
        output = (states,) if self._in_tuple else states
        before = [layer.__dict__.get("forward") for layer in self._lowest]
        for layer in self._lowest:
            layer.forward = lambda *_, **__: output
        try:
            yield
        finally:
            for layer, forward in zip(self._lowest, before, strict=True):
                del layer.forward
                if forward is not None:
                    layer.forward = forward

    def prove(self) -> None:
        """Compute the longest and the shortest examples both ways. Raises UserError if they differ."""
        order = np.argsort(-self._lengths, kind="stable").tolist()
        examples = order if len(order) <= PROVED else [*order[: PROVED // 2], *order[-PROVED // 2 :]]
        inputs, targets = self._tensors(examples)
        states = self.states(Batch(inputs, targets, tuple(examples), 0, 1.0))
        apart = float("inf")
        if states is not None:
            computed = self._computed(inputs).float()
            for row, example in enumerate(examples):
                computed[row, int(self._lengths[example]) :] = 0
            with self._evaluating():
                whole = self._loss(inputs, targets)
                with self.looked_up(states):
                    short = self._loss(inputs, targets)
            off = (states.cpu().float() - computed).abs().max() / computed.abs().max()
            apart = max(float(off), abs(short - whole) / max(1.0, abs(whole)))
        worst = _most(self._training, apart)
        if not worst <= TOLERANCE.get(self._dtype, COARSE):
            raise UserError(
                f"tuning.cache: {len(examples)} examples differ by {worst:.1e} when their frozen layers are looked up "
                f"in {self._folder}; if the model or the data was changed, remove that folder, else {OFF}"
            )

    def _loss(self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
        return self._training.task.loss(self._training.probe(inputs), targets, 0.0).item()


def _most(training: Training, value: float) -> float:
    """Return the greatest of the values of all ranks."""
    ranks = training.ranks
    return max(ranks.sum([value if number == ranks.rank else 0.0 for number in range(ranks.ranks)]))


def _rows(inputs: Mapping[str, Any]) -> list[Array]:
    """Return what the model reads as arrays, in the order of their names."""
    return [value.cpu().numpy() for _, value in sorted(inputs.items()) if isinstance(value, Tensor)]


def _checksum(rows: Sequence[Array], row: int, length: int) -> int:
    """Return a checksum of what the model reads of a row, without the padding."""
    value = 0
    for array in rows:
        value = zlib.crc32(np.ascontiguousarray(array[row, :length]).tobytes(), value)
    return value
