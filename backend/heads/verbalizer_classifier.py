"""A masked language model whose answer is which label's words it puts at the mask: prompt-based classification."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache, partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from backend.errors import UserError

log = logging.getLogger("tunewright")


class VerbalizerClassifier:
    """The loader of such models, in the manner of transformers' AutoModel classes.

    They stay the masked language models that they were: with the same weights and the same name, and what was trained
    is loaded by AutoModelForMaskedLM too. Their configuration names the tokens that stand for the labels.
    """

    @staticmethod
    def from_pretrained(source: Any, **settings: Any) -> PreTrainedModel:
        """Load a pretrained masked language model, or one that was trained here.

        `untrained` of the model are the weights that were not saved with it.
        """
        where = {"revision": settings["revision"]} if "revision" in settings else {}
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
        if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or config.is_encoder_decoder:
            raise UserError(
                f'model "{source}" is a {config.model_type}, which does not tell masked words; take an encoder '
                "(BERT, RoBERTa, XLM-R, DeBERTa, ModernBERT, ...)"
            )
        model, found = AutoModelForMaskedLM.from_pretrained(source, output_loading_info=True, **settings)
        model.untrained = tuple(sorted(found["missing_keys"]))
        if model.untrained:
            _warn_once(str(source))
        return _classifying(model)

    @staticmethod
    def from_config(config: PreTrainedConfig) -> PreTrainedModel:
        """Make a model of a configuration, with random weights."""
        return _classifying(AutoModelForMaskedLM.from_config(config))  # type: ignore[no-untyped-call]


def verbalize(model: PreTrainedModel, words: Sequence[Sequence[int]], mask: int) -> None:
    """Write into the model's configuration which tokens stand for each label, and which one is the mask."""
    model.config.verbalizer_token_ids = [list(ids) for ids in words]
    model.config.mask_token_id = mask


@cache
def _warn_once(source: str) -> None:
    log.warning(
        'model "%s" was saved without the part that tells masked words: that part starts untrained; prompts work far '
        "better with a masked language model",
        source,
    )


def _classifying(model: PreTrainedModel) -> PreTrainedModel:
    """Make a masked language model answer with logits of labels, (rows, labels)."""
    kind: Any = type(model)

    @wraps(kind.forward)
    def forward(self: Any, **inputs: Any) -> SequenceClassifierOutput:
        found = kind.forward(self, **inputs)
        logits, words = found.logits[:, 0], self.config.verbalizer_token_ids
        return SequenceClassifierOutput(
            logits=torch.stack([logits[:, ids].mean(dim=-1) for ids in words], dim=-1),
            hidden_states=found.hidden_states,
        )

    model.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    body: Any = model.base_model
    body.register_forward_hook(partial(_at_the_mask, model.config), with_kwargs=True)
    return model


def _at_the_mask(
    config: PreTrainedConfig, _module: nn.Module, _inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any
) -> Any:
    """Leave the states at the mask alone, (rows, 1, features): a vocabulary for every token is much to compute."""
    ids: Tensor = named["input_ids"] if "input_ids" in named else _inputs[0]
    states: Tensor = output.last_hidden_state
    at = (ids == config.mask_token_id).unsqueeze(-1).to(states.dtype)
    output.last_hidden_state = (states * at).sum(dim=1, keepdim=True)
    return output
