"""What every test may use: a tiny random classifier, ragged data that it can learn, the real small model."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path

import pytest

from backend.sources import SAMPLE_MODEL, model_source

# Threads of several processes on few cores spin against each other; models this small need one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

WORDS = [f"word{number}" for number in range(40)]


@pytest.fixture(scope="session")
def sample_model_path() -> Path:
    """Return the folder of the real pretrained MiniLM."""
    return Path(model_source(SAMPLE_MODEL))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random BERT with 2 layers, 32 wide, without dropout, and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {token: number for number, token in enumerate([*special, "good", "bad", *WORDS])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a token of text
    fast.normalizer = normalizers.Lowercase()
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    folder = tmp_path_factory.mktemp("tiny-model")
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CSV of 61 texts of 1 to 20 words whose label is a word in them."""
    path = tmp_path_factory.mktemp("tiny-data") / "reviews.csv"
    chance = random.Random(1)  # noqa: S311 - no secret
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(61):
            words = chance.choices(WORDS, k=chance.randint(0, 19))
            words.insert(chance.randint(0, len(words)), "good" if number % 2 else "bad")
            writer.writerow([" ".join(words), "positive" if number % 2 else "negative"])
    return path
