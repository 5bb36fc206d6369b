"""What a step computes, against the formulas written out for a model of known size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from backend.flops import work_of
from backend.interfaces import Array
from backend.tuning import TUNINGS

HIDDEN, INNER, LAYERS, CLASSES = 16, 48, 3, 2
LAYER = 4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER
HEAD = HIDDEN * HIDDEN + HIDDEN * CLASSES  # the pooler, and the classifier
LENGTHS: Array = np.array([3, 5])
TOKENS, PAIRS = 8, 9 + 25


def encoder() -> BertForSequenceClassification:
    size = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(vocab_size=30, num_labels=CLASSES, **size))


def tuned(name: str, **settings: Any) -> Any:
    tuning = TUNINGS[name]
    return tuning.apply(encoder(), tuning.Options(name=name, **settings), 10)


def test_a_whole_model_takes_six_operations_a_weight_and_token_and_twelve_a_pair() -> None:
    expected = 6 * (LAYERS * LAYER + HEAD) * TOKENS + 12 * LAYERS * HIDDEN * PAIRS
    assert work_of(tuned("full")).of(LENGTHS) == expected


def test_below_all_that_is_trained_there_is_only_the_way_forward() -> None:
    work = work_of(tuned("freeze", layers=1))
    assert work.token == 6 * (LAYER + HEAD) + 2 * 2 * LAYER
    assert work.pair == (12 + 4 + 4) * HIDDEN


def test_what_is_looked_up_costs_nothing() -> None:
    work = work_of(tuned("freeze", layers=1), looks_up=True)
    assert (work.token, work.pair) == (6 * (LAYER + HEAD), 12 * HIDDEN)


def test_frozen_weights_above_trained_ones_pass_their_gradient_on() -> None:
    added = 2 * LAYERS * 2 * 8 * HIDDEN  # two matrices of rank 8 for the queries and the values of each layer
    work = work_of(tuned("lora", rank=8))
    pooler = HIDDEN * HIDDEN  # pretrained, so frozen
    assert work.token == 4 * (LAYERS * LAYER + pooler) + 6 * (HEAD - pooler + added)
    assert work.pair == 12 * LAYERS * HIDDEN


def test_a_table_that_is_the_head_too_is_multiplied() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=HIDDEN, n_layer=1, n_head=2, n_positions=10))
    assert work_of(model).token == pytest.approx(6 * (12 * HIDDEN * HIDDEN + 30 * HIDDEN))
