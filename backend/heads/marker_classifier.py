"""A classifier that reads an encoder's states at two marked places: relation extraction."""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, initialization
from transformers.modeling_outputs import SequenceClassifierOutput

HEAD, TAIL = 1, 2  # what `markers` holds where the marker of an entity begins


class MarkerClassifier(PreTrainedModel):  # type: ignore[no-untyped-call] # transformers annotates it in part
    """Any encoder of AutoModel, and a head over its states where the markers of the head and the tail begin.

    The configuration is the encoder's own. A folder that `save_pretrained` wrote names this class in it; every
    other one is taken for a pretrained encoder that gets a new head.
    """

    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    # The encoder has its own say in which attention it can do; this class adds none.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: PreTrainedConfig, encoder: PreTrainedModel | None = None) -> None:
        encoder = AutoModel.from_config(config) if encoder is None else encoder  # type: ignore[no-untyped-call]
        super().__init__(encoder.config)
        self.encoder = encoder
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # it reads the first token alone, so it would never be trained
        size: int = encoder.config.hidden_size
        rate = getattr(config, "classifier_dropout", None)
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", 0.1) if rate is None else rate)
        self.dense = nn.Linear(2 * size, size)
        self.classifier = nn.Linear(size, len(encoder.config.id2label or ()))
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(cls, source: str | PathLike[str], **settings: Any) -> MarkerClassifier:  # type: ignore[override]
        """Load what `save_pretrained` wrote, or a pretrained encoder, which gets a new head."""
        names = {name: settings.pop(name) for name in ("id2label", "label2id") if name in settings}
        where = {name: settings[name] for name in ("revision", "trust_remote_code") if name in settings}
        config = AutoConfig.from_pretrained(source, **where, **names)
        if cls.__name__ in (config.architectures or ()):
            loaded: MarkerClassifier = super().from_pretrained(source, config=config, **settings)
            return loaded
        encoder = AutoModel.from_pretrained(source, config=config, **settings)
        fresh: MarkerClassifier = cls(encoder.config, encoder).to(encoder.dtype)
        return fresh

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        markers: Tensor,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,  # noqa: FBT001, FBT002 - as transformers has it
    ) -> SequenceClassifierOutput:
        """Return the logits of every class for each row."""
        more: dict[str, Any] = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        more |= {"output_hidden_states": True} if output_hidden_states else {}
        found = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **more)
        states = found.last_hidden_state
        pooled = torch.cat([_states_at(states, markers == place) for place in (HEAD, TAIL)], dim=-1)
        hidden = torch.tanh(self.dense(self.dropout(pooled)))
        return SequenceClassifierOutput(
            logits=self.classifier(self.dropout(hidden)), hidden_states=found.get("hidden_states")
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module in (self.dense, self.classifier):
            initialization.normal_(module.weight, 0.0, getattr(self.config, "initializer_range", 0.02))
            initialization.zeros_(module.bias)


def _states_at(states: Tensor, places: Tensor) -> Tensor:
    """Return each row's state at the one place that is true."""
    return (states * places.unsqueeze(-1).to(states.dtype)).sum(dim=1)
