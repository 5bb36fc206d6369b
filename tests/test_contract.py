"""What every task promises: from its own sample to answers, the same ones in torch, from the disk and in ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from backend.arguments import parse
from backend.data.collecting import Collected, collect, no_progress_bars
from backend.data.prepared import Split
from backend.data.samples import PREFIX, SAMPLES
from backend.interfaces import Row, Task
from backend.predict import TorchPredictor
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.spec import Data
from backend.tasks import TASKS
from export.bundle import export_run
from export.predict import OnnxPredictor

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}
ENDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def encoder(vocabulary: int) -> transformers.PreTrainedModel:
    return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=vocabulary, **SIZE))


def decoder(vocabulary: int) -> transformers.PreTrainedModel:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=512, **ENDS)
    )


def encoder_decoder(vocabulary: int) -> transformers.PreTrainedModel:
    config = transformers.T5Config(
        vocab_size=vocabulary, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0, **ENDS
    )
    return transformers.T5ForConditionalGeneration(config)


MODELS = {"encoder": encoder, "decoder": decoder, "encoder-decoder": encoder_decoder}


def tiny_tokenizer(texts: Iterator[str]) -> transformers.PreTrainedTokenizerFast:
    """Return byte-level pieces that were learned from the texts, with every special token in the place of BERT's."""
    fast = Tokenizer(models.BPE(unk_token=SPECIAL[1]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    fast.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=600, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    )
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        "pad": "[PAD]",
        "unk": "[UNK]",
        "cls": "[CLS]",
        "sep": "[SEP]",
        "mask": "[MASK]",
        "bos": "[CLS]",
        "eos": "[SEP]",
    }
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, model_max_length=512, **{f"{name}_token": token for name, token in names.items()}
    )


def texts_of(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        yield from (str(value) for value in row.values() if value)


def sample_of(task: str) -> str:
    return next(PREFIX + name for name, sample in SAMPLES.items() if sample.task == task)


@pytest.fixture
def collected(request: pytest.FixtureRequest, tmp_path: Path) -> Collected:
    task: Task = TASKS[request.param]
    with no_progress_bars():
        return collect(Data(train=sample_of(request.param)), task, task.Options.model_validate({}), tmp_path)


def make_model(task: Task, rows: Sequence[Row], folder: Path) -> Path:
    tokenizer = tiny_tokenizer(texts_of(rows))
    torch.manual_seed(0)
    model = MODELS[task.architecture](len(tokenizer))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def close(left: Any, right: Any) -> bool:
    """Tell whether two answers are the same but for the last digits of their figures."""
    if isinstance(left, float):
        return bool(left == pytest.approx(right, abs=1e-4))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(close(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(close, left, right))
    return bool(left == right)


@pytest.mark.parametrize("collected", TASKS, indirect=True)
def test_a_task_answers_alike_after_training_from_the_disk_and_in_onnx(
    request: pytest.FixtureRequest, collected: Collected, tmp_path: Path
) -> None:
    name = request.node.callspec.params["collected"]
    task = TASKS[name]
    model = make_model(task, collected.splits["train"][:200], tmp_path / "model")
    flags: dict[str, Any] = {
        "model": model,
        "task.name": name,
        "task.max_length": 96,
        "data.train": sample_of(name),
        "data.max_rows": 60,
        "schedule.steps": 2,
        "schedule.batch_size": 8,
        "precision": "fp32",
    }
    if "generation" in task.Options.model_fields:
        flags["task.generation.max_new_tokens"] = 6
    run = RunDir.create(
        tmp_path / "runs", parse([part for key, value in flags.items() for part in (f"--{key}", str(value))]).job
    )
    train(parse(["--job", str(run.job_file)]), connect())

    report = run.report() or {}
    assert report["validation"]["metrics"][task.metric] == report["validation"]["metrics"][task.metric]  # is a number

    bundle = export_run(run.path, "fp32", max_drop=1.0)
    split = Split.open(run.data, "validation")
    rows = [task.question(row) for row in split.rows(range(min(8, split.row_count)))]
    torch_answers, onnx_answers = TorchPredictor(run.path).predict(rows), OnnxPredictor(bundle).predict(rows)
    assert len(torch_answers) == len(rows)
    assert close(torch_answers, onnx_answers)
