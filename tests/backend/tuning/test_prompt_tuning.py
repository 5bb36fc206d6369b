from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForTokenClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForTokenClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from backend.optimizer import trainable
from backend.tasks import TASKS
from backend.tuning import TUNINGS

PROMPT = TUNINGS["prompt-tuning"]
WIDTH, HEAD = 32, 32 * 2 + 2
IDS = torch.tensor([[2, 5, 7, 9, 3], [2, 4, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def tuned(model: PreTrainedModel, length: int) -> PreTrainedModel:
    torch.manual_seed(0)
    options: Any = PROMPT.Options.model_validate({"name": "prompt-tuning", "length": length})
    return PROMPT.apply(model.eval(), options, 10)


def test_the_prompt_and_the_head_are_trained(tiny_model: Path) -> None:
    model = tuned(AutoModelForTokenClassification.from_pretrained(tiny_model), 7)
    assert sum(weight.numel() for weight in trainable(model)) == 7 * WIDTH + HEAD


def test_every_token_keeps_its_answer_and_a_row_that_of_its_own(tiny_model: Path) -> None:
    model = tuned(AutoModelForTokenClassification.from_pretrained(tiny_model), 7)
    with torch.inference_mode():
        both = model(input_ids=IDS, attention_mask=MASK).logits
        alone = model(input_ids=IDS[1:, :3], attention_mask=MASK[1:, :3]).logits
    assert both.shape == (2, 5, 2)
    torch.testing.assert_close(both[1:, :3], alone, rtol=0, atol=1e-5)


def test_tokens_of_the_text_keep_their_positions() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    torch.manual_seed(0)
    model = RobertaForTokenClassification(RobertaConfig(vocab_size=40, max_position_embeddings=10, **sizes)).eval()
    ids = torch.tensor([[4, 5, 7, 9, 3, 8, 6, 2]])  # as many as there are positions
    seen: list[torch.Tensor] = []
    table = model.roberta.embeddings.position_embeddings
    table.register_forward_hook(lambda _module, given, _output: seen.append(given[0]))
    with torch.inference_mode():
        model(input_ids=ids)
        tuned(model, 3)(input_ids=ids)
    plain, prompted = seen
    assert prompted[0, [0, *range(4, 11)]].tolist() == plain[0].tolist() == list(range(2, 10))
    assert prompted[0, 1:4].tolist() == [2, 2, 2]


def test_a_decoder_looks_at_the_text_alone() -> None:
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=40, d_model=32, d_kv=16, d_ff=48, num_layers=1, num_heads=2, decoder_start_token_id=0)
    )
    states = tuned(model, 4).get_encoder()(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert states.shape == (2, 5, 32)


@pytest.mark.parametrize(("task", "count"), [("dialogue", 1), ("text-classification", 0), ("translation", 0)])
def test_a_model_without_an_encoder_is_a_fault(task: str, count: int) -> None:
    faults = list(PROMPT.faults(PROMPT.Options(name="prompt-tuning"), None, TASKS[task]))  # type: ignore[arg-type]
    assert len(faults) == count
    assert all("takes prefix-tuning instead" in fault for fault in faults)
