"""Prefix tuning: every attention finds some keys and values before those of the text that no text has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backend.adapters import head, train_only
from backend.errors import UserError
from backend.methods import Tuning

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

ATTENTION = "prefix"  # the name of ours among the attentions of transformers


class PrefixTuning(Tuning):
    """Put trained keys and values before the others in each attention; no token is added, so all outputs stay in place.

    The keys have no position. They are in no cache either: an attention finds them anew with each token.
    """

    title = "Prefix tuning"
    about = "Keys and values that stand before every text are trained, in each layer; the model itself stays as it is."
    paper = (
        "Li and Liang 2021, Prefix-Tuning, arXiv:2101.00190; for understanding: Liu et al. 2021, P-Tuning v2, "
        "arXiv:2110.07602"
    )
    adds = True
    folds = False

    class Options(Tuning.Options):
        """How long the prefix is."""

        name: Literal["prefix-tuning"] = "prefix-tuning"
        length: int = Field(20, ge=1, le=1024, description="Keys and values that stand before each text.")

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Give every attention its keys and values. Raises UserError if its attention cannot be changed."""
        import torch
        from torch import nn
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import eager_mask

        trained = head(model)
        AttentionInterface.register(ATTENTION, _attend)
        AttentionMaskInterface.register(ATTENTION, eager_mask)
        model.set_attn_implementation(ATTENTION)
        for module, (heads, size, value_size) in _sizes(model).items():
            for name, width in (("prefix_keys", size), ("prefix_values", value_size)):
                start = torch.randn(heads, options.length, width, device=model.device) * 0.02
                setattr(module, name, nn.Parameter(start))
        added = {name for name, _ in model.named_parameters() if name.endswith((".prefix_keys", ".prefix_values"))}
        train_only(model, trained | added)
        return model


def _sizes(model: PreTrainedModel) -> dict[nn.Module, tuple[int, int, int]]:
    """Return the heads, the width of a key and of a value of every attention, as two tokens find them."""
    import torch

    seen: dict[nn.Module, tuple[int, int, int]] = {}
    ids = torch.ones(1, 2, dtype=torch.long, device=model.device)
    inputs = {"input_ids": ids}  # without a mask, for weights may be a shape alone
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    training = model.training
    with torch.no_grad():
        for module in model.modules():
            module.prefix_seen = seen  # type: ignore[assignment]
        model.train(False)
        model.base_model(**inputs)
        model.train(training)
        for module in model.modules():
            del module.prefix_seen
    if not seen:
        raise UserError(
            f"tuning.name is prefix-tuning, but {type(model).__name__} does not use the attention of transformers "
            "that takes a prefix; choose lora"
        )
    return seen


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Return what queries find among the prefix, keys and values: (rows, heads, tokens, width) each."""
    import torch
    from torch.nn import functional

    if hasattr(module, "prefix_seen"):
        module.prefix_seen[module] = (key.shape[1], key.shape[-1], value.shape[-1])
    length = 0
    if hasattr(module, "prefix_keys"):
        length = module.prefix_keys.shape[1]
        key, value = (
            torch.cat((prefix.to(own.dtype).expand(own.shape[0], -1, -1, -1), own), dim=2)
            for prefix, own in ((module.prefix_keys, key), (module.prefix_values, value))
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scaling = settings.get("scaling")
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    for bias in (settings.get("position_bias"), attention_mask):
        if bias is not None:
            scores = scores + functional.pad(bias, (length, 0))
    chances = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    chances = functional.dropout(chances, settings.get("dropout") or 0.0, module.training)
    return (chances @ value).transpose(1, 2).contiguous(), None
