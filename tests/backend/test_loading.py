"""Models are loaded by many threads of one server, and each is whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import torch
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from backend.model import load_saved_as

SIZE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 80}
THREADS = 8


def test_models_that_are_loaded_at_once_have_all_their_weights(tmp_path: Path) -> None:
    BertForMaskedLM(BertConfig(**SIZE)).save_pretrained(tmp_path)
    ready = Barrier(THREADS)

    def load(_: int) -> PreTrainedModel:
        ready.wait()
        return load_saved_as(tmp_path, BertForMaskedLM)

    with ThreadPoolExecutor(THREADS) as threads:
        loaded = [*threads.map(load, range(THREADS)), load_saved_as(tmp_path, BertForMaskedLM)]

    for model in loaded:
        model.to("cpu")  # type: ignore[arg-type] # fails for a weight without data
        assert torch.equal(model.get_input_embeddings().weight, loaded[-1].get_input_embeddings().weight)
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
