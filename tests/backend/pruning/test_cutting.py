from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from backend.errors import UserError
from backend.model import load_saved
from backend.pruning.classes import FAMILIES, layers_of
from backend.pruning.cutting import Kept, choose, cut
from backend.pruning.scores import Scores
from backend.pruning.shares import Shares
from backend.shortening import keep_layers
from backend.tasks import TASKS

SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
KEPT = Kept(layers=(0, 2), heads=((0, 2, 3), (1,)), neurons=(tuple(range(5, 40)), tuple(range(7))))
IDS = torch.tensor([[2, 4, 6, 7, 3], [2, 5, 8, 9, 3]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])}


def random_model(family: str, auto: str = "AutoModelForSequenceClassification") -> Any:
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[family](vocab_size=60, max_position_embeddings=40, pad_token_id=0, **SIZE)
    model = getattr(transformers, auto).from_config(config).eval()
    for weights in model.parameters():
        weights.requires_grad_(requires_grad=False).normal_(0, 0.3)
    return model


def masked(model: Any, kept: Kept) -> Tensor:
    """Return the logits of a model where what is not kept counts nothing."""

    def only(numbers: list[int]) -> Any:
        def hook(_: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
            mask = torch.zeros(inputs[0].shape[-1])
            mask[numbers] = 1
            return (inputs[0] * mask,)

        return hook

    layers = layers_of(model)
    for number in set(range(len(layers))) - set(kept.layers):
        layers[number].register_forward_hook(lambda _, inputs, __: inputs[0])
    for number, heads, neurons in zip(kept.layers, kept.heads, kept.neurons, strict=True):
        states = [head * 8 + place for head in heads for place in range(8)]
        layers[number].attention.output.dense.register_forward_pre_hook(only(states))
        layers[number].output.dense.register_forward_pre_hook(only(list(neurons)))
    logits: Tensor = model(**INPUTS).logits
    return logits


@pytest.mark.parametrize("family", FAMILIES)
def test_a_smaller_model_answers_as_the_whole_one_without_what_was_removed(family: str, tmp_path: Path) -> None:
    expected = masked(random_model(family), KEPT)
    smaller: Any = cut(random_model(family), KEPT)
    torch.testing.assert_close(smaller(**INPUTS).logits, expected)
    sizes = [(layer.attention.self.query.out_features, layer.output.dense.in_features) for layer in layers_of(smaller)]
    assert sizes == [(24, 35), (8, 7)]
    smaller.save_pretrained(tmp_path)
    loaded: Any = load_saved(tmp_path, TASKS["text-classification"])
    assert torch.equal(loaded(**INPUTS).logits, smaller(**INPUTS).logits)


@pytest.mark.parametrize("task_name", ["token-classification", "relation-extraction", "masked-language-modelling"])
def test_the_other_tasks_load_a_smaller_model_too(task_name: str, tmp_path: Path) -> None:
    task = TASKS[task_name]
    random_model("bert", "AutoModelForMaskedLM").save_pretrained(tmp_path / "whole")
    model = task.model_class().from_pretrained(tmp_path / "whole", dtype=torch.float32)
    inputs = {**INPUTS, "markers": torch.tensor([[0, 1, 0, 2, 0], [0, 1, 2, 0, 0]])}
    given = inputs if task_name == "relation-extraction" else INPUTS
    smaller: Any = cut(model, KEPT)
    smaller.save_pretrained(tmp_path / "smaller")
    loaded: Any = load_saved(tmp_path / "smaller", task)
    assert torch.equal(loaded(**given).logits, smaller(**given).logits)


def test_a_smaller_model_can_be_cut_again() -> None:
    once: Any = cut(random_model("bert"), KEPT)
    twice: Any = cut(once, Kept(layers=(0,), heads=((1,),), neurons=((3, 4),)))
    whole = Kept(layers=(0,), heads=((2,),), neurons=((8, 9),))
    torch.testing.assert_close(twice(**INPUTS).logits, masked(random_model("bert"), whole))


def scores(*heads: list[float]) -> Scores:
    layers = torch.tensor([0.5, 0.1, 0.9])
    return Scores([torch.tensor(one) for one in heads], [torch.tensor([4.0, 1.0]), torch.tensor([9.0, 8.0])], layers)


def test_the_best_over_all_layers_are_kept_and_one_of_each_at_least() -> None:
    found = choose(scores([3.0, 4.0], [0.6, 0.8])._replace(layers=torch.ones(2)), Shares(heads=0.5, neurons=0.5))
    assert found.heads == ((1,), (1,))  # the norm of each layer makes them comparable
    assert found.neurons == ((0,), (0,))
    found = choose(scores([0.0, 5.0], [3.0, 4.0])._replace(layers=torch.ones(2)), Shares(heads=0.25, neurons=0.25))
    assert found.heads == ((1,), (0, 1))
    assert found.neurons == ((0,), (0, 1))


def test_the_layers_that_matter_least_go_first() -> None:
    three = scores([1.0], [1.0], [1.0])
    found = choose(three._replace(neurons=[torch.ones(2)] * 3), Shares(layers=1))
    assert found.layers == (0, 2)
    assert found.neurons == ((0, 1), (0, 1))
    with pytest.raises(UserError, match="--layers is 3, but the model has 3 layers"):
        choose(three, Shares(layers=3))


def test_a_smaller_model_may_begin_with_some_of_its_layers() -> None:
    model: Any = keep_layers(cut(random_model("bert"), KEPT), [1])
    last = Kept(layers=(2,), heads=KEPT.heads[1:], neurons=KEPT.neurons[1:])
    torch.testing.assert_close(model(**INPUTS).logits, masked(random_model("bert"), last))
    assert (model.config.num_hidden_layers, model.config.heads, model.config.neurons) == (1, [1], [7])
