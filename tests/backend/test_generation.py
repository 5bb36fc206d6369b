"""What is written is what transformers' own `generate` writes, for every kind of model and every way to search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from backend.generation import StepModel, generate, stream
from backend.interfaces import Generation
from backend.stepping import DecoderSteps, EncoderDecoderSteps

VOCABULARY, PAD, START, STOP = 40, 0, 1, 2
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
BART = {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in {"layers": 2, "attention_heads": 2, "ffn_dim": 48}.items()
}
IDS = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": STOP, "vocab_size": VOCABULARY}
DECODERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=64, **IDS)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **IDS)
    ),
}


def bert_to_bert() -> transformers.PreTrainedModel:
    parts = [
        transformers.BertConfig(**SIZES, max_position_embeddings=64, **IDS, is_decoder=own, add_cross_attention=own)
        for own in (False, True)
    ]
    return transformers.EncoderDecoderModel(transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*parts))


ENCODER_DECODERS: dict[str, Callable[[], Any]] = {
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, **IDS)
    ),
    "bart": lambda: transformers.BartForConditionalGeneration(
        transformers.BartConfig(d_model=32, **BART, max_position_embeddings=64, **IDS)
    ),
    "marian": lambda: transformers.MarianMTModel(
        transformers.MarianConfig(d_model=32, **BART, max_position_embeddings=64, **IDS)
    ),
    "bert": bert_to_bert,
}


def tiny(make: Callable[[], Any]) -> Any:
    """Return a random model whose next token depends on all that stands before it."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.3)
    return model


def ragged() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    mask = (np.arange(9) < np.asarray([[9], [4], [6], [1]])).astype(np.int64)
    return {"input_ids": draw.integers(3, VOCABULARY, (4, 9)) * mask, "attention_mask": mask}


def by_transformers(model: Any, settings: Generation, stop_ids: Sequence[int]) -> list[list[int]]:
    """Return what `generate` writes for each row alone, without padding and the token that ends it."""
    batch, found = ragged(), []
    start = {"decoder_start_token_id": START} if model.config.is_encoder_decoder else {}
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"].astype(bool), strict=True):
        row = torch.from_numpy(ids[mask])[None]
        written = model.generate(
            row,
            attention_mask=torch.ones_like(row),
            **settings.model_dump(exclude={"seed"}),
            eos_token_id=list(stop_ids),
            forced_eos_token_id=None,
            forced_bos_token_id=None,
            **start,
        )[0].tolist()
        new = written[1 if start else row.shape[1] :]
        ends = [place for place, token in enumerate(new) if token in stop_ids]
        found.append(new[: ends[0]] if ends else new)
    return found


def steps(model: Any) -> StepModel:
    return EncoderDecoderSteps(model, START) if model.config.is_encoder_decoder else DecoderSteps(model)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "settings",
    [
        Generation(max_new_tokens=12),
        Generation(max_new_tokens=12, num_beams=3),
        Generation(max_new_tokens=10, num_beams=4, length_penalty=2.0, no_repeat_ngram_size=2),
        Generation(max_new_tokens=10, num_beams=2, length_penalty=-1.0, repetition_penalty=1.5),
        Generation(max_new_tokens=12, repetition_penalty=1.7, no_repeat_ngram_size=3),
    ],
    ids=["greedy", "beams", "long", "short", "penalties"],
)
@pytest.mark.parametrize("name", [*DECODERS, *ENCODER_DECODERS])
def test_a_ragged_batch_is_continued_as_transformers_continues_each_row(name: str, settings: Generation) -> None:
    model = tiny({**DECODERS, **ENCODER_DECODERS}[name])
    stop_ids = (STOP, 7, 11, 13)  # several, so that rows end at different lengths
    expected = by_transformers(model, settings, stop_ids)
    assert generate(steps(model), ragged(), settings, stop_ids) == expected
    assert any(expected)


class Chain:
    """A model whose next token depends on the last one alone: row `n` of the table holds what follows `n`."""

    longest = None

    def __init__(self, shares: Sequence[Sequence[float]]) -> None:
        with np.errstate(divide="ignore"):
            self.table = np.log(np.asarray(shares, dtype=np.float32))
        self.passes = 0

    def written(self, batch: Any) -> list[list[int]]:
        return [row[mask > 0].tolist() for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]

    def start(self, batch: Any, beams: int, room: int) -> np.ndarray:
        self.passes += 1
        return self.table[np.repeat([row[-1] for row in self.written(batch)], beams)]

    def step(self, tokens: np.ndarray, origin: np.ndarray) -> np.ndarray:
        self.passes += 1
        return self.table[tokens]


def one_token(*tokens: int) -> dict[str, np.ndarray]:
    ids = np.asarray(tokens)[:, None]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


THREE = [[0.0, 0.6, 0.4], [0.1, 0.0, 0.9], [0.2, 0.3, 0.5]]


def test_beams_find_what_greed_misses() -> None:
    chain = Chain([[0.0, 0.6, 0.4, 0.0], [0.0, 0.35, 0.3, 0.35], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    plain = Generation(max_new_tokens=2, length_penalty=0.0)
    assert generate(chain, one_token(0), plain, (9,)) == [[1, 1]]
    assert generate(chain, one_token(0), plain.model_copy(update={"num_beams": 2}), (9,)) == [[2, 3]]


def test_samples_have_the_shares_of_the_model() -> None:
    settings = Generation(max_new_tokens=3000, do_sample=True, top_k=0)
    (drawn,) = generate(Chain([[0.1, 0.2, 0.7]] * 3), one_token(0), settings, ())
    assert [round(Counter(drawn)[token] / 3000, 1) for token in range(3)] == [0.1, 0.2, 0.7]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"top_k": 1}, {2}),
        ({"top_k": 2}, {1, 2}),
        ({"top_p": 0.65}, {2}),
        ({"top_p": 0.85}, {1, 2}),
        ({"temperature": 0.01}, {2}),
        ({}, {0, 1, 2}),
    ],
)
def test_samples_come_from_the_likeliest_only(changes: dict[str, float], expected: set[int]) -> None:
    settings = Generation(max_new_tokens=300, do_sample=True, **changes)
    (drawn,) = generate(Chain([[0.1, 0.2, 0.7]] * 3), one_token(0), settings, ())
    assert set(drawn) == expected


def test_a_drawn_answer_depends_on_its_seed_and_its_row_alone() -> None:
    settings = Generation(max_new_tokens=20, do_sample=True)
    both = generate(Chain(THREE), one_token(1, 2), settings, ())
    assert both == [generate(Chain(THREE), one_token(row), settings, ())[0] for row in (1, 2)]
    assert both != generate(Chain(THREE), one_token(1, 2), settings.model_copy(update={"seed": 1}), ())


def test_drawn_beams_differ_from_seed_to_seed() -> None:
    settings = [Generation(max_new_tokens=8, do_sample=True, num_beams=2, seed=seed) for seed in range(8)]
    assert len({tuple(generate(Chain(THREE), one_token(0), one, ())[0]) for one in settings}) > 1


@pytest.mark.parametrize("beams", [1, 2])
def test_a_stream_gives_the_same_tokens(beams: int) -> None:
    settings = Generation(max_new_tokens=9, num_beams=beams)
    chain = Chain([[0, 0.9, 0.1, 0], [0, 0, 1, 0], [0, 0.4, 0, 0.6], [1, 0, 0, 0]])
    expected = generate(chain, one_token(1), settings, (0,))[0]
    assert list(stream(chain, one_token(1), settings, (0,))) == expected == [2, 3]


def test_an_answer_ends_where_the_positions_of_the_model_end() -> None:
    model = DecoderSteps(tiny(DECODERS["gpt2"]))
    ids = np.full((2, 60), 5)
    mask = np.arange(60) < np.asarray([[60], [63 - 10]])
    for beams in (1, 2):
        settings = Generation(max_new_tokens=30, num_beams=beams)
        rows = generate(model, {"input_ids": ids, "attention_mask": mask.astype(np.int64)}, settings, ())
        assert [len(row) for row in rows] == [64 + 1 - 60, 64 + 1 - 53]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_every_process_makes_as_many_passes_as_the_slowest(name: str, beams: int) -> None:
    model = steps(tiny({**DECODERS, **ENCODER_DECODERS}[name]))
    settings = Generation(max_new_tokens=4, num_beams=beams)
    told: list[bool] = []

    def going(mine: bool) -> bool:  # noqa: FBT001 - what the search calls
        told.append(mine)
        return len(told) < 70  # another process writes on, beyond the positions that the model has

    alone = generate(model, ragged(), settings, (STOP,))
    assert generate(model, ragged(), settings, (STOP,), going) == alone
    assert told == sorted(told, reverse=True)
    assert len(told) == 70
