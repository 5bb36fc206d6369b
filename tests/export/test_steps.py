"""Exported models that write: the same logits and the same tokens as torch, in every precision that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models

from backend.generation import generate, stream
from backend.interfaces import Generation
from backend.stepping import DecoderSteps, EncoderDecoderSteps
from export import decoders, encoder_decoders
from export.decoders import built_architectures
from export.interfaces import GRAPHS
from export.steps import OnnxDecoder, OnnxEncoderDecoder

VOCABULARY, START, STOP = 67, 1, 2
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
IDS = {"pad_token_id": 0, "bos_token_id": START, "eos_token_id": STOP, "vocab_size": VOCABULARY}
SIDES = {"layers": 1, "attention_heads": 2, "ffn_dim": 96}
BART = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in SIDES.items()}
TOKENIZER: Any = SimpleNamespace(start_id=START)
STOPS = (STOP, 7, 11)


def bert_to_bert() -> Any:
    parts = [
        transformers.BertConfig(
            **SIZES, **IDS, num_hidden_layers=1, max_position_embeddings=40, is_decoder=own, add_cross_attention=own
        )
        for own in (False, True)
    ]
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    return transformers.EncoderDecoderModel(config)


DECODERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **SIZES,
            **IDS,
            num_hidden_layers=2,
            num_key_value_heads=2,
            max_position_embeddings=40,
            tie_word_embeddings=True,
        )
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**IDS, n_embd=64, n_layer=2, n_head=2, n_positions=40)
    ),
    "gpt-neox": lambda: transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(**SIZES, **IDS, num_hidden_layers=1, max_position_embeddings=40)
    ),
    "opt": lambda: transformers.OPTForCausalLM(
        transformers.OPTConfig(
            **IDS,
            hidden_size=64,
            word_embed_proj_dim=64,
            num_attention_heads=2,
            num_hidden_layers=1,
            ffn_dim=96,
            max_position_embeddings=40,
        )
    ),
}
ENCODER_DECODERS: dict[str, Callable[[], Any]] = {
    "bert": bert_to_bert,
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(**IDS, d_model=64, d_kv=16, d_ff=96, num_layers=1, num_heads=4)
    ),
    "bart": lambda: transformers.BartForConditionalGeneration(
        transformers.BartConfig(**IDS, **BART, d_model=64, max_position_embeddings=40)
    ),
    "marian": lambda: transformers.MarianMTModel(
        transformers.MarianConfig(**IDS, **BART, d_model=64, max_position_embeddings=40)
    ),
}


def saved(make: Callable[[], Any], folder: Path) -> Any:
    """Return a random model whose next token depends on all that stands before it, as it is loaded from a run."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.3)
    model.save_pretrained(folder)
    fast = FastTokenizer(models.WordLevel({f"word{number}": number for number in range(VOCABULARY)}, "word3"))
    special = {f"{name}_token": f"word{number}" for number, name in enumerate(("pad", "bos", "eos"))}
    transformers.PreTrainedTokenizerFast(tokenizer_object=fast, **special).save_pretrained(folder)
    return type(model).from_pretrained(folder).eval()


def ragged(rows: int = 4, length: int = 9) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(rows)
    mask = (np.arange(length) < np.linspace(length, 1, rows).round()[:, None]).astype(np.int64)
    return {"input_ids": draw.integers(3, VOCABULARY, (rows, length)) * mask, "attention_mask": mask}


def written(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    return {**batch, "decoder_input_ids": draw.integers(3, VOCABULARY, (len(batch["input_ids"]), 5))}


def exported(name: str, folder: Path) -> tuple[Any, Any, Any]:
    """Return a model, its step model and its export."""
    (folder / "onnx").mkdir()
    if name in DECODERS:
        model = saved(DECODERS[name], folder / "model")
        decoders.write(folder / "model", folder / "onnx")
        return model, DecoderSteps(model), OnnxDecoder(folder / "onnx", TOKENIZER, 1)
    model = saved(ENCODER_DECODERS[name], folder / "model")
    encoder_decoders.write(folder / "model", folder / "onnx")
    return model, EncoderDecoderSteps(model, START), OnnxEncoderDecoder(folder / "onnx", TOKENIZER, 1)


SEARCHES = [
    Generation(max_new_tokens=12),
    Generation(max_new_tokens=12, num_beams=3),
    Generation(max_new_tokens=12, do_sample=True, top_k=20, temperature=2.0),
]


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "bert",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "gpt-neox", "opt", "t5", "bart", "marian")),
    ],
)
def test_an_exported_model_predicts_and_writes_as_torch_does(name: str, tmp_path: Path) -> None:
    model, reference, engine = exported(name, tmp_path)
    for rows, length in ((4, 9), (1, 1), (1, 40), (3, 2)):
        batch = ragged(rows, length) if name in DECODERS else written(ragged(rows, length))
        with torch.inference_mode():
            expected = model(**{key: torch.from_numpy(array) for key, array in batch.items()}).logits.numpy()
        real = batch["attention_mask"].astype(bool) if name in DECODERS else slice(None)
        np.testing.assert_allclose(engine(batch)["logits"][real], expected[real], rtol=0, atol=1e-4)
    for settings in SEARCHES:
        answers = generate(reference, ragged(), settings, STOPS)
        assert generate(engine.steps(), ragged(), settings, STOPS) == answers
        assert (
            list(stream(engine.steps(), ragged(1), settings, STOPS))
            == generate(reference, ragged(1), settings, STOPS)[0]
        )
    assert not [file.name for file in (tmp_path / "onnx").iterdir() if not file.name.startswith(tuple(GRAPHS_OF[name]))]
    assert b"site-packages" not in b"".join(file.read_bytes() for file in (tmp_path / "onnx").glob("*.onnx"))


GRAPHS_OF = {
    **dict.fromkeys(DECODERS, GRAPHS["decoder"]),
    **dict.fromkeys(ENCODER_DECODERS, GRAPHS["encoder-decoder"]),
}


def test_the_architectures_that_the_builder_knows_are_read_from_it() -> None:
    known = built_architectures()
    assert {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "MistralForCausalLM"} <= known
    assert not {"GPT2LMHeadModel", "OPTForCausalLM", "WhisperForConditionalGeneration"} & known
