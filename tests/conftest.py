"""What every test may use: a tiny random classifier, ragged data that it can learn, the real small model."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.launch import gpus
from backend.sources import SAMPLE_MODEL, model_source
from backend.tasks import TASKS

# Threads of several processes on few cores spin against each other; models this small need one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Several ranks need a GPU each, so all but tests/backend/gpu run on CPUs wherever they run.
if gpus() and "TUNEWRIGHT_GPU_TESTS" not in os.environ:
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}

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


def texts_of(value: Any) -> Iterator[str]:
    """Yield all texts in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_of(part)


@pytest.fixture(scope="session")
def save_tiny_model() -> Callable[[Path, str, Any], Path]:
    """Give the function that writes a tiny random model for a task, by the texts that stand anywhere in some rows."""
    return write_tiny_model


def write_tiny_model(folder: Path, task_name: str, rows: Any) -> Path:
    """Write a random model of the task's architecture whose tokenizer has learned its pieces from the rows."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    names = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    fast = Tokenizer(models.BPE(unk_token=names["unk"]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(names.values())
    texts = list(texts_of(rows))
    fast.train_from_iterator(
        [*texts, *(f" {text}" for text in texts)],  # labels are words of a prompt too, after a space
        trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet),
    )
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast,
        model_max_length=1024,
        **{f"{name}_token": token for name, token in {**names, "bos": "[CLS]", "eos": "[SEP]"}.items()},
    )
    torch.manual_seed(0)
    model = TINY[TASKS[task_name].architecture](len(tokenizer))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.1)  # so wide that answers differ from row to row
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_encoder(vocabulary: int) -> Any:
    from transformers import BertConfig, BertForMaskedLM

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertForMaskedLM(BertConfig(vocab_size=vocabulary, max_position_embeddings=1024, **size))


def tiny_decoder(vocabulary: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=3)
    )


def tiny_encoder_decoder(vocabulary: int) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    ends = {"pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(
        T5Config(vocab_size=vocabulary, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, **ends)
    )


TINY: dict[str, Callable[[int], Any]] = {
    "encoder": tiny_encoder,
    "decoder": tiny_decoder,
    "encoder-decoder": tiny_encoder_decoder,
}
