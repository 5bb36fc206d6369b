"""Several models of one task as one: its outputs are the mean, or the votes, of what they say."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from backend.interfaces import Link, Options

FILE, MEMBERS = "ensemble.json", "members"  # in the folder of the model
SMALLEST = 1e-9  # probability that has a logarithm
TIE = 1e-3  # what the mean probability counts beside the votes, so that it decides where these are even


class Member(Options):
    """How one model's outputs are read."""

    run: str  # its id
    weight: float = Field(gt=0)  # all weights sum to 1
    order: tuple[int, ...] = ()  # for each label of the ensemble, its number in the model; empty: the same order
    scale: float = 1.0  # of outputs that are numbers themselves, to those of the first model
    shift: float = 0.0


class Settings(Options):
    """How the models of an ensemble are combined."""

    by: Literal["mean", "vote"] = "mean"
    link: Link
    outputs: tuple[str, ...]
    members: tuple[Member, ...]


class Ensemble(nn.Module):
    """Models of one task: each is asked, and probabilities are combined; the outputs are their logits.

    So whatever turns a model's logits into answers reads the combined probabilities.
    """

    def __init__(self, models: Sequence[Any], settings: Settings) -> None:
        super().__init__()
        self.members = nn.ModuleList(models)
        self.settings = settings
        self.config: Any = copy.deepcopy(models[0].config)
        limits = [getattr(model.config, "max_position_embeddings", None) for model in models]
        self.config.max_position_embeddings = min((limit for limit in limits if limit), default=None)
        self._taken = [inputs_of(model) for model in models]
        self.inputs = tuple(dict.fromkeys(name for names in self._taken for name in names))

    @classmethod
    def load(cls, folder: Path, load_member: Callable[[Path], Any]) -> Ensemble:
        """Load what `backend.ensemble` wrote."""
        settings = Settings.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
        return cls([load_member(folder / MEMBERS / str(n)) for n in range(len(settings.members))], settings)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the outputs of the task."""
        found = [
            model(**{name: inputs[name] for name in names if name in inputs})
            for model, names in zip(self.members, self._taken, strict=True)
        ]
        return {name: self._combined([one[name] for one in found], inputs) for name in self.settings.outputs}

    def _combined(self, outputs: Sequence[Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
        link, total, votes = self.settings.link, None, None
        for output, member in zip(outputs, self.settings.members, strict=True):
            ordered = output[..., list(member.order)] if member.order else output
            likely = _likely(ordered * member.scale + member.shift, link, inputs) * member.weight
            total = likely if total is None else total + likely
            if self.settings.by == "vote":
                vote = functional.one_hot(likely.argmax(-1), likely.shape[-1]).to(likely) * member.weight
                votes = vote if votes is None else votes + vote
        assert total is not None  # noqa: S101 - an ensemble has members
        return _unlinked(total if votes is None else (votes + TIE * total) / (1 + TIE), link)


def inputs_of(model: Any) -> tuple[str, ...]:
    """Return the names of what a model's forward takes; an ensemble takes what its members take."""
    if isinstance(model, Ensemble):
        return model.inputs
    names = tuple(inspect.signature(model.forward).parameters)
    # Some models take token types but know of one type only: for them the default is the only right input.
    one_type = getattr(model.config, "type_vocab_size", 2) < 2
    return tuple(name for name in names if not (name == "token_type_ids" and one_type))


def is_ensemble(folder: Path) -> bool:
    """Tell whether a folder has the models of an ensemble."""
    return (folder / FILE).is_file()


def settings_json(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON."""
    found: dict[str, Any] = json.loads(settings.model_dump_json())
    return found


def _likely(logits: Tensor, link: Link, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return probabilities, or the numbers themselves."""
    if link == "numbers":
        return logits
    if link == "labels":
        return torch.sigmoid(logits)
    if link == "places":  # one of the tokens that are there
        logits = logits.masked_fill(inputs["attention_mask"] == 0, torch.finfo(logits.dtype).min)
    return torch.softmax(logits, dim=-1)


def _unlinked(likely: Tensor, link: Link) -> Tensor:
    """Return the logits of probabilities."""
    if link == "numbers":
        return likely
    if link == "labels":
        return torch.logit(likely, eps=SMALLEST)
    return torch.log(likely.clamp_min(SMALLEST))
