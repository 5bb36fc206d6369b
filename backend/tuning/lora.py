"""LoRA: what training changes in a matrix is a product of two thin ones."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backend.adapters import fold, inject, targets
from backend.few_bits import pack, unpack
from backend.interfaces import Task
from backend.methods import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from backend.spec import JobSpec


class LoRA(Tuning):
    """Add B A alpha / rank to the weight of a linear layer, which stays; with peft."""

    title = "LoRA"
    about = "Small matrices beside the large ones are trained: a fraction of the memory, and nothing is slower later."
    paper = (
        "Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, arXiv:2106.09685; rsLoRA: "
        "Kalajdzievski 2023, arXiv:2312.03732; DoRA: Liu et al. 2024, arXiv:2402.09353; "
        "base_weights: Dettmers et al. 2023, QLoRA, arXiv:2305.14314"
    )
    adds = True

    class Options(Tuning.Options):
        """How large the matrices are, and where."""

        name: Literal["lora"] = "lora"
        rank: int = Field(8, ge=1, le=1024, description="Rank of the product.")
        alpha: float = Field(16.0, gt=0, description="The product is multiplied by alpha / rank.")
        dropout: float = Field(0.0, ge=0, lt=1, description="Share of the product's inputs that is dropped.")
        targets: Literal["auto", "all-linear"] = Field(
            "auto", description="auto: the queries and values of every attention; all-linear: every linear layer."
        )
        modules: tuple[str, ...] = Field(
            (), description="Instead, the linear layers that are called like this, such as query or output.dense."
        )
        rslora: bool = Field(False, description="Divide alpha by the root of the rank (rsLoRA): for high ranks.")
        dora: bool = Field(False, description="Train the length of each row of the weight besides (DoRA).")
        base_weights: Literal["fp32", "8-bit", "4-bit"] = Field(
            "fp32", description="How pretrained weights of linear layers are kept: fewer bits, less memory, more time."
        )

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that weights in few bits cannot be had here, or not together with something else."""
        if options.base_weights == "fp32":
            return
        if find_spec("bitsandbytes") is None:
            yield (
                f"base_weights {options.base_weights} needs bitsandbytes, which is not installed here; `pip install "
                "bitsandbytes`, or set base_weights to fp32"
            )
        if options.dora:
            yield (
                f"dora trains the length of whole weights, which base_weights {options.base_weights} does not keep; "
                "set base_weights to fp32, or leave dora out"
            )

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Put peft's LoRA beside the linear layers."""
        from peft import LoraConfig

        places = targets(model, options)
        if options.base_weights != "fp32":
            model = pack(model, {"8-bit": 8, "4-bit": 4}[options.base_weights])
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=places,
            use_rslora=options.rslora,
            use_dora=options.dora,
        )
        return inject(model, config)

    def merge(self, model: PreTrainedModel, options: Any) -> PreTrainedModel:
        """Add the products to the weights."""
        return fold(unpack(model))
