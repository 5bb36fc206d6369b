"""A finished run of a tiny model, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from backend.data.batching import by_length, pad
from backend.data.prepare import prepare
from backend.data.prepared import Split
from backend.model import as_encoder, load_model, load_tokenizer, save_model
from backend.rundir import Owner, RunDir, Status
from backend.sources import SAMPLE_MODEL
from backend.spec import Data, JobSpec
from backend.tasks import TASKS
from backend.tokenizer import INPUTS
from export.bundle import export_run

LONGEST = 64
WORDS = ["good", "bad", "fine", "dull", *(f"word{number}" for number in range(60))]

ARCHITECTURES: dict[str, Callable[[], transformers.PreTrainedConfig]] = {
    "bert": lambda: transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=80
    ),
    "distilbert": lambda: transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=80),
    "roberta": lambda: transformers.RobertaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        vocab_size=80,
        pad_token_id=0,
        type_vocab_size=1,  # as in roberta-base
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        vocab_size=80,
        **{f"{name}_token_id": number for number, name in enumerate(("pad", "unk", "cls", "sep", "bos", "eos"))},
    ),
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    vocabulary = {word: number for number, word in enumerate([*names.values(), *WORDS])}
    fast = FastTokenizer(models.WordLevel(vocabulary, names["unk_token"]))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=fast, model_input_names=list(INPUTS), **names)


def tiny_model(architecture: str) -> transformers.PreTrainedModel:
    """Return a random model whose answers differ from row to row."""
    torch.manual_seed(0)
    config = ARCHITECTURES[architecture]()
    config.max_position_embeddings = LONGEST + 2  # RoBERTa counts positions from 2
    config.id2label, config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.3)
    return model


def write_reviews(path: Path, rows: int = 120) -> None:
    """Write labelled texts from one word to more than a model reads."""
    draw = np.random.default_rng(0)
    lines = ["text,label"]
    for number in range(rows):
        words = draw.choice(WORDS, 1 + number % 70)
        lines.append(f"{' '.join(words)} {number},{'good' if 'good' in words else 'bad'}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def finished_run(
    workspace: Path, model: transformers.PreTrainedModel, tokenizer: PreTrainedTokenizerFast, job: JobSpec
) -> RunDir:
    """Make what training leaves behind."""
    run = RunDir.create(workspace, job)
    save_model(model, tokenizer, run.model)
    prepare(job, as_encoder(tokenizer, run.model), run.data)
    run.write_report({"best_step": 1, "validation": {"metrics": {}}, "test": None, "seconds": 1.0})
    run.write_status(Status(state="finished", owner=Owner.me()))
    return run


@pytest.fixture(scope="session")
def save_tiny() -> Callable[[str, Path], Path]:
    """Give the function that writes a tiny model of an architecture into a folder."""

    def save(architecture: str, folder: Path) -> Path:
        save_model(tiny_model(architecture), tiny_tokenizer(), folder)
        return folder

    return save


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    write_reviews(path)
    return path


@pytest.fixture(scope="session")
def session_run(tmp_path_factory: pytest.TempPathFactory, reviews: Path) -> RunDir:
    """Give one finished run; a test that changes something takes a copy."""
    job = JobSpec(
        task={"name": "text-classification", "max_length": LONGEST},
        model="tiny",
        data=Data(train=str(reviews), validation_fraction=0.4),
    )
    return finished_run(tmp_path_factory.mktemp("runs"), tiny_model("bert"), tiny_tokenizer(), job)


@pytest.fixture(scope="session")
def bundles(session_run: RunDir) -> dict[str, Path]:
    return {precision: export_run(session_run.path, precision, max_drop=1.0) for precision in ("fp32", "int8")}


@pytest.fixture(scope="session")
def minilm_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Give a run of the real MiniLM on the built-in reviews, whose head alone was fitted."""
    job = JobSpec(model=SAMPLE_MODEL, data=Data(train="sample:movie-reviews"))
    tokenizer = load_tokenizer(job)
    labels = ("negative", "positive")
    model = load_model(job, TASKS["text-classification"], labels).eval()
    run = finished_run(tmp_path_factory.mktemp("runs"), model, tokenizer, job)
    split = Split.open(run.data, "train")
    order = [row for batch in by_length(split.lengths[:1500].tolist(), 32) for row in batch]
    with torch.inference_mode():
        pooled = []
        for start in range(0, len(order), 32):
            batch = pad(split.features(order[start : start + 32]), 0)
            inputs = {name: torch.from_numpy(array) for name, array in batch.items()}
            pooled.append(model.base_model(**inputs).pooler_output)
        truth = [row["label"] == labels[1] for row in split.rows(order)]
        head = LogisticRegression(C=10, max_iter=1000).fit(torch.cat(pooled).numpy(), truth)
        weights = torch.from_numpy(np.concatenate([-head.coef_, head.coef_]) / 2)
        model.classifier.weight.copy_(weights)
        model.classifier.bias.copy_(torch.from_numpy(np.concatenate([-head.intercept_, head.intercept_]) / 2))
    save_model(model, tokenizer, run.model)
    return run
