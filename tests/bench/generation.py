"""Speed of writing: exported models against transformers' `generate`, and what their precision costs.

    python tests/bench/generation.py

Tokens a second after the prompt is read, on two threads; every engine in a process of its own, because the threads of
one library spin while another one computes; the engines take turns; the median counts.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from backend.generation import generate
from backend.interfaces import Generation
from backend.sources import SAMPLE_MODEL, model_source
from export.interfaces import GRAPHS
from export.quantizers import QUANTIZERS
from export.steps import OnnxDecoder, OnnxEncoderDecoder

ROOT = Path(__file__).resolve().parent.parent.parent
# A causal language model with its tokenizer; SmolLM2 with 135 million weights is what the figures are known for.
DECODER = Path(os.environ.get("TUNEWRIGHT_DECODER", ROOT / ".data" / "smollm2"))
MISSING = f"{DECODER}: there is no model; run `make data`, or set TUNEWRIGHT_DECODER to the folder of one"
TURNS = 5
TOKENS = 64  # that are written in one measurement
PROMPT, WINDOW, WINDOWS = 118, 512, 6  # tokens of the prompt; tokens and number of windows of the perplexity
THREADS = 2
TORCH = "torch"
ENVIRONMENT = {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "false"}

Write = Callable[[np.ndarray[Any, Any], int], list[int]]  # (prompt, tokens) -> what is written


def measure(report: Callable[[str], None] = print) -> dict[str, Any]:
    """Return tokens a second, megabytes and perplexities of every engine, by architecture."""
    found = {}
    for architecture in ("decoder", "encoder-decoder"):
        if architecture == "decoder" and not (DECODER / "config.json").is_file():
            report(f"skipped {architecture}: {MISSING}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            report(f"exporting the {architecture}")
            _run("make", architecture, folder)
            found[architecture] = _compare(architecture, Path(folder), report)
    return found


def _compare(architecture: str, folder: Path, report: Callable[[str], None]) -> dict[str, dict[str, float]]:
    engines = [TORCH, *_precisions(architecture)]
    rates: dict[str, list[float]] = {engine: [] for engine in engines}
    for turn in range(TURNS):
        report(f"{architecture}: turn {turn + 1} of {TURNS}")
        for engine in engines:
            rates[engine].append(float(_run("rate", architecture, str(folder), engine)))
    found = {engine: {"tokens/s": statistics.median(rates[engine])} for engine in engines}
    for engine in engines:
        found[engine]["times as fast"] = found[engine]["tokens/s"] / found[TORCH]["tokens/s"]
        if engine != TORCH:
            found[engine]["MB"] = sum(file.stat().st_size for file in (folder / engine).iterdir()) / 1e6
        if architecture == "decoder":
            report(f"perplexity of {engine}")
            found[engine]["perplexity"] = float(_run("perplexity", str(folder), engine))
    return found


def tables(found: Mapping[str, Any]) -> list[Table]:
    """Return what `measure` found, ready to print."""
    made = []
    for architecture, engines in found.items():
        table = Table(title=f"writing, {architecture}, {THREADS} threads")
        columns = list(dict.fromkeys(name for figures in engines.values() for name in figures))
        for name in ("", *columns):
            table.add_column(name, justify="right" if name else "left")
        for engine, figures in engines.items():
            table.add_row(engine, *(f"{figures[name]:.2f}" if name in figures else "" for name in columns))
        made.append(table)
    return made


def _precisions(architecture: str) -> list[str]:
    return [name for name, quantizer in QUANTIZERS.items() if architecture in quantizer.architectures]


def _run(*arguments: str) -> str:
    """Do a step in a process of its own; its last line is the answer."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **ENVIRONMENT},
    )
    return done.stdout.decode().splitlines()[-1]


def make(architecture: str, folder: Path) -> str:
    """Export a model in every precision."""
    from export import decoders, encoder_decoders

    if architecture == "encoder-decoder":
        _save_encoder_decoder(folder / "model")
    for precision in ("plain", *_precisions(architecture)):
        (folder / precision).mkdir()
    write = decoders.write if architecture == "decoder" else encoder_decoders.write
    write(_source(architecture, folder), folder / "plain")
    for precision in _precisions(architecture):
        for graph, stepwise in GRAPHS[architecture].items():
            source, destination = folder / "plain" / graph, folder / precision / graph
            QUANTIZERS[precision].quantize(source, destination, stepwise=stepwise)
    return "made"


def _source(architecture: str, folder: Path) -> Path:
    return DECODER if architecture == "decoder" else folder / "model"


def _save_encoder_decoder(folder: Path) -> None:
    """Save two of the sample model, one of which writes; how well does not matter here."""
    import torch
    import transformers

    torch.manual_seed(0)
    source = model_source(SAMPLE_MODEL)
    model = transformers.EncoderDecoderModel.from_encoder_decoder_pretrained(source, source)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id, config.pad_token_id = tokenizer.cls_token_id, tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rate(architecture: str, folder: Path, engine: str) -> str:
    """Return how many tokens a second an engine writes after its prompt."""
    write = _torch(architecture, folder) if engine == TORCH else _onnx(architecture, folder / engine)
    prompt = np.random.default_rng(0).integers(1000, 20_000, (1, PROMPT))
    write(prompt, 2)
    seconds = []
    for tokens in (1, TOKENS):
        start = time.perf_counter()
        written = len(write(prompt, tokens))
        seconds.append(time.perf_counter() - start)
        if written != tokens:
            raise RuntimeError(f"{engine} wrote {written} tokens instead of {tokens}")
    return str((TOKENS - 1) / (seconds[1] - seconds[0]))


def _torch(architecture: str, folder: Path) -> Write:
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    auto = transformers.AutoModelForCausalLM if architecture == "decoder" else transformers.AutoModelForSeq2SeqLM
    model: Any = auto.from_pretrained(_source(architecture, folder), dtype=torch.float32).eval()

    def write(prompt: np.ndarray[Any, Any], tokens: int) -> list[int]:
        ids = torch.from_numpy(prompt)
        settings = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "num_beams": 1}
        written = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0].tolist()
        return written[PROMPT if architecture == "decoder" else 1 :]

    return write


def _onnx(architecture: str, folder: Path) -> Write:
    from types import SimpleNamespace

    start: Any = SimpleNamespace(start_id=101)
    model = (OnnxDecoder if architecture == "decoder" else OnnxEncoderDecoder)(folder, start, THREADS)

    def write(prompt: np.ndarray[Any, Any], tokens: int) -> list[int]:
        batch = {"input_ids": prompt, "attention_mask": np.ones_like(prompt)}
        return generate(model.steps(), batch, Generation(max_new_tokens=tokens), ())[0]

    return write


def perplexity(folder: Path, engine: str) -> str:
    """Return the perplexity of the built-in reviews."""
    from tokenizers import Tokenizer

    with (ROOT / "backend" / "data" / "samples" / "movie_reviews.csv").open(encoding="utf-8") as file:
        text = "\n".join(row["text"] for row in csv.DictReader(file))
    ids = np.asarray(Tokenizer.from_file(str(DECODER / "tokenizer.json")).encode(text[:40_000]).ids)
    windows = ids[: WINDOW * WINDOWS].reshape(WINDOWS, 1, WINDOW)
    if engine == TORCH:
        import torch
        import transformers

        model: Any = transformers.AutoModelForCausalLM.from_pretrained(DECODER, dtype=torch.float32).eval()
        with torch.inference_mode():
            logits = [model(torch.from_numpy(window)).logits[0].numpy() for window in windows]
    else:
        start: Any = None
        decoder = OnnxDecoder(folder / engine, start, THREADS)
        logits = [
            decoder({"input_ids": window, "attention_mask": np.ones_like(window)})["logits"][0] for window in windows
        ]
    losses = [_losses(scores[:-1], window[0, 1:]) for scores, window in zip(logits, windows, strict=True)]
    return str(float(np.exp(np.concatenate(losses).mean())))


def _losses(logits: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    scores = logits.astype(np.float64)
    largest = scores.max(-1)
    total = np.log(np.exp(scores - largest[:, None]).sum(-1)) + largest
    losses: np.ndarray[Any, Any] = total - scores[np.arange(len(truth)), truth]
    return losses


STEPS: dict[str, Callable[..., str]] = {"make": make, "rate": rate, "perplexity": perplexity}


def main(arguments: list[str]) -> None:
    """Measure and print; with arguments: one step of it, in a process of its own."""
    if not arguments:
        console = Console()
        for table in tables(measure(console.print)):
            console.print(table)
    else:
        step, *given = arguments
        sys.stdout.write(STEPS[step](*(Path(one) if "/" in one else one for one in given)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
