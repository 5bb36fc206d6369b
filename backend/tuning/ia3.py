"""(IA)3: keys, values and what the feed-forward network computes are stretched, each number by a factor of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from backend.adapters import feed_forward_ends, fold, inject, keys_and_values
from backend.methods import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class IA3(Tuning):
    """Multiply keys, values and the inner states of the feed-forward network by vectors that begin as ones."""

    title = "(IA)3"
    about = "A factor for each number inside attention and feed-forward network: a tenth of LoRA's weights; learn fast."
    paper = "Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper, arXiv:2205.05638"
    adds = True

    class Options(Tuning.Options):
        """(IA)3 has no settings; its learning rate is about a hundred times that of full fine-tuning."""

        name: Literal["ia3"] = "ia3"

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Put peft's vectors at the layers."""
        from peft import IA3Config

        ends = feed_forward_ends(model)
        config = IA3Config(target_modules=[*keys_and_values(model), *ends], feedforward_modules=ends)
        return inject(model, config)

    def merge(self, model: PreTrainedModel, options: Any) -> PreTrainedModel:
        """Multiply the weights."""
        return fold(model)
