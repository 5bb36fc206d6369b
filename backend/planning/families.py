"""The sizes of models by what their config.json says, one reader for each kin of models; nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backend.errors import UserError
from backend.planning.shape import Shape, Stack
from backend.sources import model_source


class Config:
    """A config.json whose missing keys are told."""

    def __init__(self, raw: Mapping[str, Any], place: str) -> None:
        self._raw, self.place = raw, place

    def number(self, *names: str) -> int:
        """Return the first of some keys. Raises UserError if none is a number."""
        for name in names:
            if isinstance(self._raw.get(name), int):
                return int(self._raw[name])
        raise UserError(f"{self.place}: config.json has no {' or '.join(names)}, which the plan of memory needs")

    def get(self, name: str, default: Any) -> Any:
        """Return a key, or what it is where the file leaves it out."""
        value = self._raw.get(name)
        return default if value is None else value


def read_shape(model: str, revision: str = "main", *, here: bool = False) -> Shape:
    """Return the sizes of a model; `here`: only if its configuration is on this machine already.

    Raises UserError if its configuration is not there, or of a kind not known.
    """
    raw = _read(model, revision, here=here)
    kind = str(raw.get("model_type", ""))
    if kind not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(
            f'model "{model}": the plan knows no sizes of model_type "{kind}", only of {known}; '
            "tunewright layers counts the weights of any model"
        )
    return FAMILIES[kind](Config(raw, f'model "{model}"'), kind)


def _read(model: str, revision: str, *, here: bool) -> dict[str, Any]:
    source = model_source(model)
    path = Path(source) / "config.json"
    if not path.is_file():
        path = _from_hub(source, revision, here=here)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f'model "{model}": config.json cannot be read ({error})') from error
    return raw if isinstance(raw, dict) else {}


def _from_hub(model: str, revision: str, *, here: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, "config.json", revision=revision, local_files_only=here))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f'model "{model}" (revision {revision}): its config.json cannot be had: {first}') from error


def _dropped(config: Config, *names: str) -> int:
    """Return 1 if a rate of dropout is not 0; transformers takes 0.1 where the file leaves it out."""
    return int(bool(next((value for key in names if (value := config.get(key, None)) is not None), 0.1)))


def _activation(config: Config, *names: str) -> int:
    """Return how many numbers an activation function keeps of each of its own: the tanh form of GELU is many steps."""
    name = str(next((config.get(key, None) for key in names if config.get(key, None)), "gelu"))
    return 1 if name.endswith("relu") else 5 if name in {"gelu_new", "gelu_fast", "gated-gelu"} else 2


def _bert(config: Config, kind: str) -> Shape:
    """BERT and its kin: biases everywhere, two norms a layer, positions that are learned."""
    hidden, inner = config.number("hidden_size", "dim"), config.number("intermediate_size", "hidden_dim")
    layers, heads = config.number("num_hidden_layers", "n_layers"), config.number("num_attention_heads", "n_heads")
    width = int(config.get("embedding_size", hidden))
    types = 0 if kind == "distilbert" else int(config.get("type_vocab_size", 2))
    positions = config.number("max_position_embeddings")
    stack = Stack(
        layers=layers,
        hidden=hidden,
        heads=heads,
        attention=hidden,
        keys=hidden,
        inner=inner,
        biased=4 * hidden + inner + hidden + 4 * hidden,
        masks=_dropped(config, "hidden_dropout_prob", "dropout") * (1 if kind == "distilbert" else 2),
        middle=_activation(config, "hidden_act", "activation"),
        scored=bool(_dropped(config, "attention_probs_dropout_prob", "attention_dropout")),
    )
    widened = width * hidden + hidden if width != hidden else 0
    return Shape(
        model_type=kind,
        stacks=(stack,),
        vocabulary=config.number("vocab_size"),
        width=width,
        beside=(positions + types + 2) * width + widened,
    )


def _gpt2(config: Config, kind: str) -> Shape:
    hidden = config.number("n_embd")
    inner = int(config.get("n_inner", 4 * hidden))
    stack = Stack(
        layers=config.number("n_layer"),
        hidden=hidden,
        heads=config.number("n_head"),
        attention=hidden,
        keys=hidden,
        inner=inner,
        biased=4 * hidden + inner + hidden + 4 * hidden,
        masks=2 * _dropped(config, "resid_pdrop"),
        middle=_activation(config, "activation_function") if config.get("activation_function", None) else 5,
        scored=bool(_dropped(config, "attn_pdrop")),
    )
    beside = config.number("n_positions") * hidden + 2 * hidden
    return Shape(model_type=kind, stacks=(stack,), vocabulary=config.number("vocab_size"), width=hidden, beside=beside)


def _llama(config: Config, kind: str) -> Shape:
    """Llama and its kin: no biases but Qwen 2's of queries, keys and values, and a gated feed-forward part."""
    hidden, heads = config.number("hidden_size"), config.number("num_attention_heads")
    each = int(config.get("head_dim", hidden // heads))
    keys = int(config.get("num_key_value_heads", heads)) * each
    biased = 2 * hidden
    if kind == "qwen2":
        biased += heads * each + 2 * keys
    elif kind == "qwen3":
        biased += 2 * each
    elif config.get("attention_bias", False):
        biased += heads * each + 2 * keys + hidden
    stack = Stack(
        layers=config.number("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        attention=heads * each,
        keys=keys,
        inner=config.number("intermediate_size"),
        gated=True,
        biased=biased,
        norms=6,
        middle=4,
        scored=bool(config.get("attention_dropout", 0.0)),
        normed=kind == "qwen3",
    )
    return Shape(
        model_type=kind,
        stacks=(stack,),
        vocabulary=config.number("vocab_size"),
        width=hidden,
        beside=hidden,
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _t5(config: Config, kind: str) -> Shape:
    hidden, heads = config.number("d_model"), config.number("num_heads")
    attention = heads * config.number("d_kv")
    gated = str(config.get("feed_forward_proj", "relu")).startswith("gated")
    dropped = _dropped(config, "dropout_rate")
    kept = _activation(config, "feed_forward_proj") + dropped * (1 if gated else 2) + (2 if gated else 0)
    one = {
        "hidden": hidden,
        "heads": heads,
        "attention": attention,
        "keys": attention,
        "inner": config.number("d_ff"),
        "gated": gated,
        "middle": kept,
        "scored": bool(dropped),
    }
    layers = config.number("num_layers")
    encoder = Stack(layers=layers, biased=2 * hidden, norms=6, masks=2 * dropped, **one)
    below = int(config.get("num_decoder_layers", layers))
    decoder = Stack(layers=below, biased=3 * hidden, crossed=True, norms=9, masks=3 * dropped, **one)
    buckets = int(config.get("relative_attention_num_buckets", 32))
    return Shape(
        model_type=kind,
        stacks=(encoder, decoder),
        vocabulary=config.number("vocab_size"),
        width=hidden,
        beside=2 * buckets * heads + 2 * hidden,
        tied=bool(config.get("tie_word_embeddings", True)),
    )


def _bart(config: Config, kind: str) -> Shape:
    """BART and its kin: biases everywhere; M2M's positions are computed, Marian's and Pegasus' are weights."""
    hidden = config.number("d_model")
    stacks = []
    for side, crossed in (("encoder", False), ("decoder", True)):
        inner = config.number(f"{side}_ffn_dim")
        biased = (8 if crossed else 4) * hidden + inner + hidden + (6 if crossed else 4) * hidden
        stacks.append(
            Stack(
                layers=config.number(f"{side}_layers"),
                hidden=hidden,
                heads=config.number(f"{side}_attention_heads"),
                attention=hidden,
                keys=hidden,
                inner=inner,
                crossed=crossed,
                biased=biased,
                norms=6 if crossed else 4,
                masks=_dropped(config, "dropout") * (3 if crossed else 2),
                middle=_activation(config, "activation_function"),
                scored=bool(config.get("attention_dropout", 0.0)),
            )
        )
    offset = {"bart": 2, "mbart": 2}.get(kind, 0)
    positions = 0 if kind == "m2m_100" else 2 * (config.number("max_position_embeddings") + offset) * hidden
    norms = {"bart": 4, "mbart": 8, "m2m_100": 4, "pegasus": 4, "marian": 0}[kind] * hidden
    return Shape(
        model_type=kind,
        stacks=tuple(stacks),
        vocabulary=config.number("vocab_size"),
        width=hidden,
        beside=positions + norms,
    )


# model_type of config.json -> how its sizes are read
FAMILIES: dict[str, Callable[[Config, str], Shape]] = {
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "camembert": _bert,
    "electra": _bert,
    "distilbert": _bert,
    "gpt2": _gpt2,
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _llama,
    "qwen3": _llama,
    "t5": _t5,
    "mt5": _t5,
    "bart": _bart,
    "mbart": _bart,
    "marian": _bart,
    "m2m_100": _bart,
    "pegasus": _bart,
}
