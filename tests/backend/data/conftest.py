from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, processors

from backend.data.collecting import Collected, collect
from backend.spec import Data
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film", *map(str, range(10))]

# 30 rows of each class: enough for every split, and for telling a misspelt label from a rare one.
GOOD_CSV = "text,label\n" + "a good film,positive\na bad film,negative\n" * 30

Write = Callable[[str, str | bytes], str]
Collect = Callable[..., Collected]


@pytest.fixture
def good_csv() -> str:
    """The text of a file without faults: header, then 60 rows in lines 2 to 61."""
    return GOOD_CSV


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into the current folder, which is a new one, and return its name."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: str | bytes) -> str:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write_file


@pytest.fixture
def collect_text(tmp_path_factory: pytest.TempPathFactory) -> Collect:
    """Read and check data for text classification; `options` are those of the task, the rest is Data."""

    def collect_data(options: dict[str, object] | None = None, **data: object) -> Collected:
        task = TASKS["text-classification"]
        folder = tmp_path_factory.mktemp("collected")
        return collect(Data.model_validate(data), task, task.Options.model_validate(options or {}), folder)

    return collect_data


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    fast = FastTokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, WORDS[1]))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    return folder


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder, ("input_ids", "attention_mask"))
