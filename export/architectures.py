"""How each architecture is exported and answers from its files. Nothing here imports torch before it exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from backend.answering import Model
from backend.interfaces import Features, Task
from backend.tokenizer import Tokenizer
from export.runtime import OnnxEngine
from export.steps import OnnxDecoder, OnnxEncoderDecoder


class Source(NamedTuple):
    """What an export starts from."""

    model: Path  # the folder of the trained model
    task: Task
    sample: Features  # the model inputs of some window


class Architecture(NamedTuple):
    """One way in which models work, from a trained folder to answers."""

    write: Callable[[Source, Path], None]  # writes the fp32 graphs into a folder
    load: Callable[[Path, Tokenizer, int | None], Model]  # (bundle, tokenizer, threads; None: all cores)
    proof_tokens: int  # of the rows at most, so that a proof takes seconds to minutes on two cores
    batch_sizes: tuple[int, ...]  # of the proof


def _write_encoder(source: Source, folder: Path) -> None:
    from export.to_onnx import to_onnx

    to_onnx(source.model, source.task, source.sample, folder / "model.onnx")


def _write_decoder(source: Source, folder: Path) -> None:
    from export.decoders import write

    write(source.model, folder)


def _write_encoder_decoder(source: Source, folder: Path) -> None:
    from export.encoder_decoders import write

    write(source.model, folder)


def _load_encoder(bundle: Path, _: Tokenizer, threads: int | None) -> Model:
    return OnnxEngine(bundle / "model.onnx", threads)


def _load_decoder(bundle: Path, tokenizer: Tokenizer, threads: int | None) -> Model:
    return OnnxDecoder(bundle, tokenizer, threads)


def _load_encoder_decoder(bundle: Path, tokenizer: Tokenizer, threads: int | None) -> Model:
    return OnnxEncoderDecoder(bundle, tokenizer, threads)


ARCHITECTURES: dict[str, Architecture] = {
    "encoder": Architecture(_write_encoder, _load_encoder, 100_000, (1, 8, 32)),
    "decoder": Architecture(_write_decoder, _load_decoder, 8_000, (1, 4)),
    "encoder-decoder": Architecture(_write_encoder_decoder, _load_encoder_decoder, 20_000, (1, 8)),
}
