"""Bottleneck adapters: small networks between the layers, which stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backend.adapters import attention_ends, feed_forward_ends, head, train_only
from backend.methods import Tuning

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class Adapters(Tuning):
    """Add to what a block computes what a network with a bottleneck makes of it: h + W f(V h), with W = 0 at first."""

    title = "Adapters"
    about = "Small networks with a bottleneck after each block are trained. They stay in the model and cost some time."
    paper = (
        "Houlsby et al. 2019, Parameter-Efficient Transfer Learning for NLP, arXiv:1902.00751; Pfeiffer et al. 2021, "
        "AdapterFusion, arXiv:2005.00247"
    )
    adds = True
    folds = False

    class Options(Tuning.Options):
        """How wide the bottlenecks are, and where they are."""

        name: Literal["adapters"] = "adapters"
        size: int = Field(64, ge=1, le=4096, description="Width of the bottleneck.")
        after: Literal["feed-forward", "both"] = Field(
            "feed-forward", description="After the feed-forward networks (Pfeiffer), or the attentions too (Houlsby)."
        )
        activation: Literal["relu", "gelu", "silu"] = Field("gelu", description="What bends in the bottleneck.")

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Give the last layer of every block an adapter, before what it adds to is added."""
        trained = head(model)
        ends = [*feed_forward_ends(model), *(attention_ends(model) if options.after == "both" else ())]
        for name in ends:
            layer: Any = model.get_submodule(name)
            layer.adapter = _adapter(layer, options)
            layer.register_forward_hook(_add)
        added = {name for name, _ in model.named_parameters() if ".adapter." in name}
        train_only(model, trained | added)
        return model


def _adapter(layer: Any, options: Any) -> nn.Module:
    from torch import nn

    width = getattr(layer, "out_features", None) or layer.nf  # the latter of GPT-2's own kind of linear layer
    down, up = nn.Linear(width, options.size), nn.Linear(options.size, width)
    nn.init.normal_(down.weight, std=1e-2)
    nn.init.zeros_(up.weight)
    for part in (down, up):
        nn.init.zeros_(part.bias)
    bend = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}[options.activation]
    return nn.Sequential(down, bend(), up).to(layer.weight.device)


def _add(layer: Any, _inputs: Any, output: Tensor) -> Tensor:
    added: Tensor = layer.adapter(output)
    return output + added
