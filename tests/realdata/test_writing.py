"""A real language model writes the same in torch and in ONNX, and is refused in a precision that hurts it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from backend.data.batching import pad
from backend.data.prepare import prepare
from backend.errors import UserError
from backend.generation import generate
from backend.interfaces import Context, Features, Generation
from backend.model import as_encoder, load_model, load_saved, load_tokenizer, save_model
from backend.rundir import Owner, RunDir, Status
from backend.spec import parse_job
from backend.stepping import DecoderSteps
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer
from export.bundle import export_run
from export.decoders import write
from export.manifest import read_manifest
from export.steps import OnnxDecoder

pytestmark = pytest.mark.slow

TASK = TASKS["dialogue"]
PROMPTS = 50


@pytest.fixture(scope="module")
def run(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Give a finished run of SmolLM2 as it was pretrained."""
    job = parse_job(
        {
            "model": str(real_data("smollm2")),
            "task": {"name": "dialogue", "max_length": 256},
            "data": {"train": "sample:dialogue", "validation_fraction": 0.3},
        }
    )
    made = RunDir.create(tmp_path_factory.mktemp("runs"), job)
    tokenizer = load_tokenizer(job)
    prepared = prepare(job, as_encoder(tokenizer, job.model), made.data)
    save_model(load_model(job, TASK, prepared.labels), tokenizer, made.model)
    made.write_report({"validation": {"metrics": {}}, "test": None})
    made.write_status(Status(state="finished", owner=Owner.me()))
    return made


def prompts(file: Path, tokenizer: Tokenizer) -> list[Features]:
    """Return what the first users say, as the model's template puts it."""
    with file.open(encoding="utf-8") as lines:
        first = [json.loads(line)["messages"][0]["content"] for line in itertools.islice(lines, PROMPTS)]
    rows = [{"messages": [{"role": "user", "content": text}]} for text in first]
    context = Context(TASK.Options.model_validate({}), (), ("messages",), tokenizer)
    return [TASK.prompt(window) for (window,) in TASK.encode(rows, context)]


@pytest.mark.timeout(900)
def test_fifty_prompts_are_answered_alike_by_transformers_torch_and_onnx(
    run: RunDir, real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(run.model)
    model = load_saved(run.model, TASK)
    write(run.model, tmp_path)
    onnx = OnnxDecoder(tmp_path, tokenizer)
    settings = Generation(max_new_tokens=24)
    for prompt in prompts(real_data("dialogue_en.jsonl"), tokenizer):
        batch = pad([prompt], tokenizer.pad_id)
        inputs = {name: torch.from_numpy(array) for name, array in batch.items()}
        whole = model.generate(**inputs, max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.pad_id)
        theirs = [
            token for token in whole[0, batch["input_ids"].shape[1] :].tolist() if token not in tokenizer.stop_ids
        ]
        assert generate(DecoderSteps(model), batch, settings, tokenizer.stop_ids) == [theirs]
        assert generate(onnx.steps(), batch, settings, tokenizer.stop_ids) == [theirs]


@pytest.mark.timeout(900)
def test_int8_keeps_the_perplexity_and_int4_is_refused_unless_its_loss_is_accepted(run: RunDir) -> None:
    bundle = export_run(run.path, "int8", max_drop=0.02)
    proof = read_manifest(bundle).proof
    assert proof.figures["fp32"].metrics["perplexity"] == pytest.approx(
        proof.figures["torch"].metrics["perplexity"], rel=1e-4
    )
    with pytest.raises(UserError, match=r"int4 raises perplexity by .*5\.0% is allowed.*--max-drop"):
        export_run(run.path, "int4")
    assert not (run.export / "int4").exists()
