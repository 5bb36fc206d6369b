"""Text to token ids without torch or transformers: training, the page and the ONNX server share it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Encoding
from tokenizers import Tokenizer as FastTokenizer

from backend.errors import UserError

# What a model's forward takes -> the field of a tokenizers.Encoding that holds it.
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class Tokenizer:
    """A saved fast tokenizer with what a model needs around it."""

    def __init__(self, fast: FastTokenizer, pad_id: int, input_names: Sequence[str]) -> None:
        self._fast = fast
        self._fast.no_padding()
        self.pad_id = pad_id
        self.input_names = tuple(name for name in INPUTS if name in input_names)

    @classmethod
    def load(cls, folder: Path, input_names: Sequence[str] | None = None) -> Tokenizer:
        """Read tokenizer.json and tokenizer_config.json from a model folder or a bundle."""
        try:
            fast = FastTokenizer.from_file(str(folder / "tokenizer.json"))
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: cannot read its tokenizer ({error})") from error
        pad = config.get("pad_token") or config.get("eos_token")
        pad = pad["content"] if isinstance(pad, dict) else pad
        pad_id = fast.token_to_id(pad) if pad is not None else None
        if pad_id is None:
            raise UserError(f'{folder}/tokenizer_config.json: "pad_token" {pad!r} is not in the vocabulary')
        return cls(fast, pad_id, input_names or config.get("model_input_names", tuple(INPUTS)))

    def encodings(self, texts: Sequence[str] | Sequence[tuple[str, str]], max_length: int) -> list[Encoding]:
        """Encode texts or pairs of texts, with special tokens and offsets, cut to `max_length` tokens."""
        self._fast.enable_truncation(max_length)
        return self._fast.encode_batch(list(texts))

    def __call__(self, texts: Sequence[str] | Sequence[tuple[str, str]], max_length: int) -> list[dict[str, list[int]]]:
        """Encode texts or pairs of texts to the inputs that the model takes, unpadded."""
        encodings = self.encodings(texts, max_length)
        return [{name: getattr(encoding, INPUTS[name]) for name in self.input_names} for encoding in encodings]
