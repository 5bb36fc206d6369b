"""Prompt tuning: some tokens that no text has are read with every text, and only these are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from backend.adapters import head, train_only
from backend.errors import UserError
from backend.methods import Tuning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from backend.interfaces import Task
    from backend.spec import JobSpec


class PromptTuning(Tuning):
    """Read trained tokens after the first token of the text, and drop what the encoder says of them.

    So the first token stays the first, every output stays the one of its own token, and whoever reads the states of
    an encoder, a head or a decoder, finds those of the text alone. Where positions can be told to the encoder, the
    tokens of the text keep theirs, and the trained ones share that of the first.
    """

    title = "Prompt tuning"
    about = "A few tokens that are read with every text are trained, the least of all: for large models."
    paper = "Lester et al. 2021, The Power of Scale for Parameter-Efficient Prompt Tuning, arXiv:2104.08691"
    adds = True
    folds = False

    class Options(Tuning.Options):
        """How many tokens there are."""

        name: Literal["prompt-tuning"] = "prompt-tuning"
        length: int = Field(20, ge=1, le=512, description="Tokens that are read with every text.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that a decoder keeps what it has read, where a prompt cannot be taken out again."""
        if task.architecture == "decoder":
            yield "prompt-tuning needs an encoder; a model that writes on from its text takes prefix-tuning instead"

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Give the encoder a table of tokens, which begin as some of the vocabulary."""
        import torch
        from torch import nn

        trained = head(model)
        reader: Any = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        table = cast("nn.Embedding", reader.get_input_embeddings()).weight
        _check_room(model, reader, options.length)
        order = torch.randperm(len(table), device="cpu")
        places = order.repeat(-(-options.length // len(table)))[: options.length]
        reader.prompt = nn.Embedding(options.length, table.shape[1], device=table.device)
        with torch.no_grad():
            reader.prompt.weight.copy_(table[places.to(table.device)])
        reader.register_forward_pre_hook(_read, with_kwargs=True)
        reader.register_forward_hook(_drop)
        train_only(
            model, trained | {name for name, weight in model.named_parameters() if weight is reader.prompt.weight}
        )
        return model


def _check_room(model: PreTrainedModel, reader: Any, length: int) -> None:
    longest = getattr(reader.config, "max_position_embeddings", None)
    if not _tells_positions(reader) and longest is not None and length >= longest:
        raise UserError(f"tuning.length is {length}, but {type(model).__name__} reads {longest} tokens; lower it")


def _tells_positions(reader: Any) -> bool:
    import inspect

    return "position_ids" in inspect.signature(reader.forward).parameters


def _read(reader: Any, arguments: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Put the prompt after the first token of every input."""
    import torch

    named = {**inputs, **dict(zip(("input_ids", "attention_mask"), arguments, strict=False))}
    ids = named.pop("input_ids")
    states: Tensor = reader.get_input_embeddings()(ids)
    rows, tokens = ids.shape
    length = reader.prompt.num_embeddings
    prompt = reader.prompt(torch.arange(length, device=ids.device)).to(states.dtype).expand(rows, -1, -1)
    mask = named.get("attention_mask")
    named["attention_mask"] = _with(torch.ones_like(ids) if mask is None else mask, length, 1)
    if named.get("token_type_ids") is not None:
        named["token_type_ids"] = _with(named["token_type_ids"], length, 0)
    if _tells_positions(reader):
        first = _first_position(reader)
        own = torch.arange(first, first + tokens, device=ids.device).expand(rows, -1)
        named["position_ids"] = _with(own, length, first)
    else:
        _check_length(reader, tokens + length)
    named["inputs_embeds"] = torch.cat((states[:, :1], prompt, states[:, 1:]), dim=1)
    return (), named


def _with(numbers: Tensor, length: int, value: int) -> Tensor:
    import torch

    added = torch.full_like(numbers[:, :1], value).expand(-1, length)
    return torch.cat((numbers[:, :1], added, numbers[:, 1:]), dim=1)


def _first_position(reader: Any) -> int:
    """Return the number of the first position: models like RoBERTa count on from that of the padding."""
    embeddings = getattr(reader, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def _check_length(reader: Any, tokens: Any) -> None:
    longest = getattr(reader.config, "max_position_embeddings", None)
    if longest is not None and isinstance(tokens, int) and tokens > longest:
        raise UserError(
            f"text and prompt have {tokens} tokens, but the model reads {longest}; lower task.max_length or "
            "tuning.length"
        )


def _drop(reader: Any, _arguments: Any, output: Any) -> Any:
    """Take the states of the prompt out of what the encoder returns."""
    import torch

    length = reader.prompt.num_embeddings

    def without(states: Tensor) -> Tensor:
        return torch.cat((states[:, :1], states[:, 1 + length :]), dim=1)

    output["last_hidden_state"] = without(output["last_hidden_state"])
    if output.get("hidden_states") is not None:
        output["hidden_states"] = tuple(without(states) for states in output["hidden_states"])
    return output
