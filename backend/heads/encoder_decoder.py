"""Models that read a text and write one: pretrained ones, and those made of an encoder such as BERT."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    EncoderDecoderModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)

from backend.errors import UserError

FITTING = (
    "take an encoder-decoder (T5, mT5, BART, mBART, Pegasus, ...), or an encoder that can be made into one "
    "(BERT, RoBERTa, XLM-R, ELECTRA, CamemBERT, ERNIE, ...)"
)


class EncoderDecoder:
    """The loader of such models, in the manner of transformers' AutoModel classes."""

    @staticmethod
    def from_pretrained(source: Any, **kwargs: Any) -> PreTrainedModel:
        """Load an encoder-decoder; or make one of an encoder, which is then also the start of the decoder."""
        # What is for models with classes. A weight that does not fit is an error here: there is no head to replace.
        given = {key: kwargs[key] for key in kwargs.keys() - {"id2label", "label2id", "ignore_mismatched_sizes"}}
        revision = {"revision": given["revision"]} if "revision" in given else {}
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **revision)
        if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
            model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(source, **given)
        elif _can_be_both(config):
            model = _warm_started(source, config, given, revision)
        else:
            raise UserError(
                f'model "{source}" is a {config.model_type}, which cannot read one text and write another: {FITTING}'
            )
        return _without_pooler(model)

    @staticmethod
    def from_config(config: Any) -> PreTrainedModel:
        """Make the model that a pretrained one of this configuration becomes, with random weights."""
        if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
            model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config)  # type: ignore[no-untyped-call]
            return _without_pooler(model)
        if not _can_be_both(config):
            raise UserError(f"a {config.model_type} cannot read one text and write another: {FITTING}")
        encoder = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        writer = copy.deepcopy(config)
        writer.is_decoder = writer.add_cross_attention = True
        decoder = AutoModelForCausalLM.from_config(writer)  # type: ignore[no-untyped-call]
        return _without_pooler(EncoderDecoderModel(encoder=encoder, decoder=decoder))


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """Take away what transformers makes with every encoder, and nothing reads."""
    if isinstance(model, EncoderDecoderModel) and getattr(model.encoder, "pooler", None) is not None:
        model.encoder.pooler = None
    return model


def _can_be_both(config: PreTrainedConfig) -> bool:
    """Tell whether a model was pretrained as an encoder and can also write, looking at another's states."""
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return False
    writer: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return "encoder_hidden_states" in inspect.signature(writer.forward).parameters


def _warm_started(source: Any, config: Any, given: dict[str, Any], revision: dict[str, Any]) -> EncoderDecoderModel:
    """Make both sides of one encoder; what looks from the decoder to the encoder is new and random."""
    encoder = AutoModel.from_pretrained(source, **given)
    config.is_decoder = config.add_cross_attention = True
    decoder = AutoModelForCausalLM.from_pretrained(source, config=config, **given)
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **revision)
    ids = {
        "decoder_start_token_id": _first(tokenizer.cls_token_id, tokenizer.bos_token_id),
        "eos_token_id": _first(tokenizer.sep_token_id, tokenizer.eos_token_id),
        "pad_token_id": _first(tokenizer.pad_token_id, config.pad_token_id),
    }
    for name, number in ids.items():
        setattr(model.config, name, number)
        setattr(model.generation_config, name, number)
    model.config.vocab_size = config.vocab_size
    return model


def _first(*numbers: int | None) -> int | None:
    return next((number for number in numbers if number is not None), None)
