"""Exported models that write, as step models: numpy and onnxruntime alone, never torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from backend.errors import UserError
from backend.generation import Batch, StepModel, left_padded, prompts
from backend.interfaces import Array, Outputs
from backend.tokenizer import Tokenizer
from export.interfaces import CROSS, DECODER, ENCODER, MODEL, PAST, PRESENT, cache_names
from export.runtime import session

if TYPE_CHECKING:
    OrtValue = Any
else:
    OrtValue = onnxruntime.OrtValue


class _Graph:
    """One onnxruntime session with a cache of keys and values among its inputs and outputs."""

    def __init__(self, path: Path, threads: int | None) -> None:
        self.session = session(path, threads)
        shapes = {value.name: value.shape for value in self.session.get_inputs()}
        self.inputs = tuple(name for name in shapes if not name.startswith((f"{PAST}.", f"{CROSS}.")))
        self.outputs = tuple(value.name for value in self.session.get_outputs())
        self.layers = sum(name.startswith(f"{PAST}.") for name in shapes) // 2
        self.past = cache_names(PAST, self.layers)
        self.present = cache_names(PRESENT, self.layers)
        self._heads = [(shapes[name][1], shapes[name][3]) for name in self.past]
        self.facts: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.longest = int(self.facts["longest"]) if "longest" in self.facts else None

    def buffers(self, rows: int, room: int) -> list[Array]:
        """Return an empty cache with room for some tokens."""
        return [np.zeros((rows, heads, room, size), dtype=np.float32) for heads, size in self._heads]

    def run(self, inputs: Mapping[str, Array], cache: Mapping[str, OrtValue]) -> tuple[Array, list[OrtValue]]:
        """Return the logits and the cache with what the inputs add to it."""
        binding = self.session.io_binding()
        for name in self.inputs:
            binding.bind_cpu_input(name, np.ascontiguousarray(inputs[name]))
        for name, value in cache.items():
            binding.bind_ortvalue_input(name, value)
        for name in ("logits", *self.present):
            binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        return logits.numpy(), present

    def run_in_place(self, inputs: Mapping[str, Array], cache: Sequence[OrtValue]) -> Array:
        """Return the logits; what the inputs add to the cache is written into its room."""
        binding = self.session.io_binding()
        for name in self.inputs:
            binding.bind_cpu_input(name, np.ascontiguousarray(inputs[name]))
        for before, after, value in zip(self.past, self.present, cache, strict=True):
            binding.bind_ortvalue_input(before, value)
            binding.bind_ortvalue_output(after, value)
        binding.bind_output("logits", "cpu")
        self.session.run_with_iobinding(binding)
        logits: Array = binding.get_outputs()[-1].numpy()
        return logits


class OnnxDecoder:
    """An exported causal language model; safe to be asked from several threads."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, threads: int | None = None) -> None:
        self._graph = _Graph(folder / MODEL, threads)
        self.inputs = tuple(name for name in self._graph.inputs if name != "position_ids")
        self.outputs = ("logits",)

    def __call__(self, batch: Batch) -> Outputs:
        """Return the logits of whole rows; where a row is padded they mean nothing."""
        mask = batch["attention_mask"]
        inputs = {"position_ids": np.maximum(mask.cumsum(-1) - 1, 0), **batch}
        empty = zip(self._graph.past, self._graph.buffers(len(mask), 0), strict=True)
        feed = {name: inputs[name] for name in self._graph.inputs}
        return {"logits": self._graph.session.run(["logits"], {**feed, **dict(empty)})[0]}

    def steps(self) -> StepModel:
        """Return a step model for one generation after the other."""
        return _RoomySteps(self._graph) if self._graph.facts.get("cache") == "room" else _GrowingSteps(self._graph)


class _DecoderSteps:
    def __init__(self, graph: _Graph) -> None:
        self._graph = graph
        self.longest = graph.longest

    def written(self, batch: Batch) -> list[list[int]]:
        """Return the prompts."""
        return prompts(batch)


class _RoomySteps(_DecoderSteps):
    """Steps of a graph whose attention takes its own positions from the mask and writes into a cache with room.

    Nothing is copied from step to step. Rows are padded on the right, and each goes on where it ends.
    """

    def start(self, batch: Batch, beams: int, room: int) -> Array:
        """Read the prompts once each."""
        rows = prompts(batch)
        self._lengths = np.asarray([len(prompt) for prompt in rows])
        width = int(self._lengths.max())
        ids = np.zeros((len(rows), width), dtype=np.int64)
        for row, prompt in enumerate(rows):
            ids[row, : len(prompt)] = prompt
        self._room = width + room
        self._buffers = self._graph.buffers(len(rows), self._room)
        self._bind()
        logits: Array = self._run(ids)[np.arange(len(rows)), self._lengths - 1]
        if beams == 1:
            return logits
        origin = np.repeat(np.arange(len(rows)), beams)
        self._buffers = [buffer[origin] for buffer in self._buffers]
        self._bind()
        self._lengths = self._lengths[origin]
        repeated: Array = logits[origin]
        return repeated

    def step(self, tokens: Array, origin: Array) -> Array:
        """Append a token to each sequence."""
        moved = np.flatnonzero(origin != np.arange(len(origin)))
        if moved.size:
            used = int(self._lengths.max())
            for buffer in self._buffers:
                buffer[moved, :, :used] = buffer[origin[moved], :, :used]
            self._lengths = self._lengths[origin]
        self._lengths = self._lengths + 1
        logits: Array = self._run(tokens[:, None])[:, -1]
        return logits

    def _bind(self) -> None:
        self._cache = [OrtValue.ortvalue_from_numpy(buffer) for buffer in self._buffers]

    def _run(self, ids: Array) -> Array:
        mask = (np.arange(self._lengths.max()) < self._lengths[:, None]).astype(np.int64)
        first = np.maximum(self._lengths[:, None] - ids.shape[1], 0)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": first + np.arange(ids.shape[1])}
        return self._graph.run_in_place(inputs, self._cache)


class _GrowingSteps(_DecoderSteps):
    """Steps of a graph that returns a cache longer than the one that it was given.

    Rows are padded on the left, so that the new tokens of all rows stand next to their prompts.
    """

    def start(self, batch: Batch, beams: int, room: int) -> Array:
        """Read the prompts once each."""
        ids, self._mask = left_padded(batch)
        self._cache = [OrtValue.ortvalue_from_numpy(empty) for empty in self._graph.buffers(len(ids), 0)]
        logits = self._run(ids)
        if beams == 1:
            return logits
        origin = np.repeat(np.arange(len(ids)), beams)
        self._reorder(origin)
        repeated: Array = logits[origin]
        return repeated

    def step(self, tokens: Array, origin: Array) -> Array:
        """Append a token to each sequence."""
        if not np.array_equal(origin, np.arange(len(self._mask))):
            self._reorder(origin)
        self._mask = np.concatenate((self._mask, np.ones_like(self._mask[:, :1])), -1)
        return self._run(tokens[:, None])

    def _reorder(self, origin: Array) -> None:
        self._cache = _reordered(self._cache, origin)
        self._mask = self._mask[origin]

    def _run(self, ids: Array) -> Array:
        positions = np.maximum(self._mask.cumsum(-1) - 1, 0)[:, -ids.shape[1] :]
        inputs = {"input_ids": ids, "attention_mask": self._mask, "position_ids": positions}
        logits, self._cache = self._graph.run(inputs, dict(zip(self._graph.past, self._cache, strict=True)))
        last: Array = logits[:, -1]
        return last


class OnnxEncoderDecoder:
    """An exported model that reads its input and then writes; safe to be asked from several threads."""

    inputs = ("input_ids", "attention_mask", "decoder_input_ids")
    outputs = ("logits",)

    def __init__(self, folder: Path, tokenizer: Tokenizer, threads: int | None = None) -> None:
        if tokenizer.start_id is None:
            raise UserError(f"{folder}: tokenizer_config.json does not say what it begins to write with; export again")
        self._encoder = _Graph(folder / ENCODER, threads)
        self._decoder = _Graph(folder / DECODER, threads)
        self._start_id = tokenizer.start_id

    def __call__(self, batch: Batch) -> Outputs:
        """Return the logits of whole rows, each token of them given those before it."""
        inputs, cross = self._read(batch)
        past = [OrtValue.ortvalue_from_numpy(empty) for empty in self._decoder.buffers(len(batch["input_ids"]), 0)]
        cache = {**dict(zip(self._decoder.past, past, strict=True)), **cross}
        logits, _ = self._decoder.run({**inputs, "decoder_input_ids": batch["decoder_input_ids"]}, cache)
        return {"logits": logits}

    def steps(self) -> StepModel:
        """Return a step model for one generation after the other."""
        return _EncoderDecoderSteps(self, self._decoder, self._start_id)

    def _read(self, batch: Batch) -> tuple[dict[str, Array], dict[str, OrtValue]]:
        mask = np.ascontiguousarray(batch["attention_mask"])
        read = self._encoder.session.run_with_ort_values(
            None,
            {
                "input_ids": OrtValue.ortvalue_from_numpy(np.ascontiguousarray(batch["input_ids"])),
                "attention_mask": OrtValue.ortvalue_from_numpy(mask),
            },
        )
        return {"encoder_attention_mask": mask}, dict(zip(self._encoder.outputs, read, strict=True))


class _EncoderDecoderSteps:
    def __init__(self, model: OnnxEncoderDecoder, graph: _Graph, start_id: int) -> None:
        self._model, self._graph, self._start_id = model, graph, start_id
        self.longest = graph.longest

    def written(self, batch: Batch) -> list[list[int]]:
        """Return the token with which every row begins."""
        return [[self._start_id] for _ in batch["input_ids"]]

    def start(self, batch: Batch, beams: int, room: int) -> Array:
        """Read the inputs once each."""
        inputs, cross = self._model._read(batch)  # noqa: SLF001 - the two are one
        rows = len(batch["input_ids"])
        self._mask, self._cross = inputs["encoder_attention_mask"], cross
        self._past = [OrtValue.ortvalue_from_numpy(empty) for empty in self._graph.buffers(rows, 0)]
        logits = self._run(np.full((rows, 1), self._start_id))
        if beams == 1:
            return logits
        origin = np.repeat(np.arange(rows), beams)
        self._past = _reordered(self._past, origin)
        self._cross = dict(zip(cross, _reordered(list(cross.values()), origin), strict=True))
        self._mask = self._mask[origin]
        repeated: Array = logits[origin]
        return repeated

    def step(self, tokens: Array, origin: Array) -> Array:
        """Append a token to each sequence."""
        if not np.array_equal(origin, np.arange(len(origin))):
            self._past = _reordered(self._past, origin)  # all beams of a row read the same input
        return self._run(tokens[:, None])

    def _run(self, ids: Array) -> Array:
        inputs = {"decoder_input_ids": ids, "encoder_attention_mask": self._mask}
        cache = {**dict(zip(self._graph.past, self._past, strict=True)), **self._cross}
        logits, self._past = self._graph.run(inputs, cache)
        last: Array = logits[:, -1]
        return last


def _reordered(values: Sequence[Any], origin: Array) -> list[Any]:
    return [OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value.numpy()[origin])) for value in values]
