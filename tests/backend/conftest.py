"""Real runs of the tiny model in the process of the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.rundir import RunDir
from backend.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))  # for forked_ranks.py, which no package holds

TrainRun = Callable[..., RunDir]


@pytest.fixture(scope="session")
def new_tiny_run(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainRun:
    """Make a run that nobody has trained yet; the flags are those of the command line without their dashes."""
    from backend.arguments import parse

    def make(**flags: object) -> RunDir:
        given = {
            "model": tiny_model,
            "data.train": tiny_data,
            "task.max_length": 32,
            "precision": "fp32",
            "schedule.batch_size": 8,
            **flags,
        }
        argv = [part for name, value in given.items() for part in (f"--{name}", str(value))]
        return RunDir.create(tmp_path_factory.mktemp("runs"), parse(argv).job)

    return make


@pytest.fixture(scope="session")
def tiny_llama(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random Llama that has fewer key heads than query heads, and an odd number of words."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model, eos_token="[SEP]")  # noqa: S106 - a token of text
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 1 - len(tokenizer) % 2,
        intermediate_size=64,
        max_position_embeddings=64,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
        **size,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def train_here() -> Callable[..., None]:
    """Train a run to its end in this process."""
    from backend.arguments import parse
    from backend.rank import connect
    from backend.session import train

    def train_run(run: RunDir, *flags: str) -> None:
        train(parse(["--job", str(run.job_file), *flags]), connect())

    return train_run


@pytest.fixture(scope="session")
def byte_tokenizer() -> Callable[..., Tokenizer]:
    """Make a tokenizer with a token for every byte, then <pad> (256), <s>, </s>, <|im_start|>, <|im_end|>, <mask>."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as FastTokenizer

    def make(**config: object) -> Tokenizer:
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        fast = FastTokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        fast.decoder = decoders.ByteLevel()
        added = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<mask>"]
        fast.add_special_tokens([AddedToken(token, special=True) for token in added])
        names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}
        return Tokenizer(fast, {**names, **config}, ("input_ids", "attention_mask"))

    return make
