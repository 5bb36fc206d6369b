"""Text to token ids and back without torch or transformers: training, the page and the ONNX server share it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Regex, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from backend.errors import UserError

# What a model's forward takes -> the field of a tokenizers.Encoding that holds it.
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
FILES = ("tokenizer.json", "tokenizer_config.json")
CHAT_TEMPLATE = "chat_template.jinja"
# The parts of tokenizer.json that decide how a text is cut; the others say how long it may be, and how it is put back.
CUTTING = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "model")
SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

FREQUENT = "中国我们一个没有北京です"  # words that a tokenizer of Chinese and Japanese has as tokens
Texts = Sequence[str] | Sequence[tuple[str, str]]


class Tokenizer:
    """A saved fast tokenizer with what a model needs around it.

    `config` is the content of tokenizer_config.json. Beyond transformers' own keys it may hold `model_input_names`,
    `decoder_start_token_id` (what an encoder-decoder begins to write with) and `stop_token_ids` (what ends an answer).
    """

    def __init__(
        self, fast: FastTokenizer, config: Mapping[str, Any], input_names: Sequence[str] | None = None
    ) -> None:
        self._fast = fast
        self._fast.no_padding()
        self._separating: dict[str, Tokenizer] = {}
        names = input_names or config.get("model_input_names", tuple(INPUTS))
        self.input_names = tuple(name for name in INPUTS if name in names)
        self.chat_template: str | None = config.get("chat_template")
        self.special = {name: token for name in SPECIAL if (token := _content(config.get(f"{name}_token"))) is not None}
        pad = self.special.get("pad", self.special.get("eos"))
        pad_id = fast.token_to_id(pad) if pad is not None else None
        if pad_id is None:
            raise UserError(f'tokenizer_config.json: "pad_token" {pad!r} is not in the vocabulary')
        self.pad_id: int = pad_id
        self.start_id: int | None = config.get("decoder_start_token_id")
        self.stop_ids: tuple[int, ...] = tuple(config.get("stop_token_ids") or self._ids("eos"))

    @classmethod
    def load(cls, folder: Path, input_names: Sequence[str] | None = None) -> Tokenizer:
        """Read tokenizer.json, tokenizer_config.json and the chat template from a model folder or a bundle."""
        try:
            fast = FastTokenizer.from_file(str(folder / FILES[0]))
            config = json.loads((folder / FILES[1]).read_text(encoding="utf-8"))
            template = folder / CHAT_TEMPLATE
            if template.is_file():
                config["chat_template"] = template.read_text(encoding="utf-8")
        except Exception as error:  # tokenizers raises plain Exception for a file that it cannot read
            raise UserError(f"{folder}: cannot read its tokenizer ({error})") from error
        try:
            return cls(fast, config, input_names)
        except UserError as error:
            raise UserError(f"{folder}/{error}") from error

    def id(self, name: str) -> int | None:
        """Return the id of a special token by its role, such as "mask"; None if the tokenizer has none."""
        return next(iter(self._ids(name)), None)

    def token(self, number: int) -> str:
        """Return a token by its id. Raises KeyError if there is none."""
        token = self._fast.id_to_token(number)
        if token is None:
            raise KeyError(number)
        return str(token)

    def makes_the_tokens_of(self, other: Tokenizer) -> bool:
        """Tell whether another tokenizer cuts texts to the same tokens with the same numbers."""
        one, another = (json.loads(tokenizer._fast.to_str()) for tokenizer in (self, other))  # noqa: SLF001 - a tokenizer too
        return all(one.get(part) == another.get(part) for part in CUTTING)

    @property
    def size(self) -> int:
        """The number of tokens, added ones included."""
        return int(self._fast.get_vocab_size())

    def encodings(self, texts: Texts, max_length: int, *, special_tokens: bool = True) -> list[Encoding]:
        """Encode texts or pairs of texts, with offsets, cut to `max_length` tokens."""
        self._fast.enable_truncation(max_length)
        return self._fast.encode_batch(list(texts), add_special_tokens=special_tokens)

    def windows(self, texts: Texts, max_length: int, stride: int) -> list[list[Encoding]]:
        """Encode texts to overlapping windows of `max_length` tokens, `stride` of which are those of the one before.

        Of a pair only the second text is cut to windows; each begins with the whole first one.
        """
        strategy = "longest_first" if texts and isinstance(texts[0], str) else "only_second"
        self._fast.enable_truncation(max_length, stride=stride, strategy=strategy)
        encodings = self._fast.encode_batch(list(texts))
        return [[first, *first.overflowing] for first in encodings]

    def whole(self, texts: Texts, *, special_tokens: bool = True) -> list[Encoding]:
        """Encode texts or pairs of texts, with offsets, and cut nothing."""
        self._fast.no_truncation()
        return self._fast.encode_batch(list(texts), add_special_tokens=special_tokens)

    def separating(self, characters: str) -> Tokenizer:
        """Return a tokenizer that joins no two of these characters (a class of regular expressions) to a token.

        It is this one, if it joins none of the most frequent Chinese and Japanese words, as those of BERT do not.
        """
        if characters not in self._separating:
            self._separating[characters] = next(filter(_separates, self._split_at(characters)), self)
        return self._separating[characters]

    def _split_at(self, characters: str) -> Iterator[Tokenizer]:
        """Yield this tokenizer, and copies that cut texts at each character, after their own cuts and before."""
        yield self
        split = pre_tokenizers.Split(Regex(characters), "isolated")
        own = [self._fast.pre_tokenizer] if self._fast.pre_tokenizer else []
        for steps in ([*own, split], [split, *own]):
            other = copy.copy(self)
            other._fast = copy.deepcopy(self._fast)  # noqa: SLF001 - a copy of this one
            other._fast.pre_tokenizer = pre_tokenizers.Sequence(steps)  # noqa: SLF001
            yield other

    def features(self, encoding: Encoding) -> dict[str, list[Any]]:
        """Return the inputs that the model takes, unpadded."""
        return {name: list(getattr(encoding, INPUTS[name])) for name in self.input_names}

    def __call__(self, texts: Texts, max_length: int) -> list[dict[str, list[Any]]]:
        """Encode texts or pairs of texts to the inputs that the model takes, cut to `max_length` tokens, unpadded."""
        return [self.features(encoding) for encoding in self.encodings(texts, max_length)]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return str(self._fast.decode(list(ids), skip_special_tokens=True))

    def _ids(self, name: str) -> tuple[int, ...]:
        token = self.special.get(name)
        number = self._fast.token_to_id(token) if token is not None else None
        return () if number is None else (number,)


def _separates(tokenizer: Tokenizer) -> bool:
    (encoding,) = tokenizer.whole([FREQUENT], special_tokens=False)
    return all(end - start < 2 for start, end in encoding.offsets)


def _content(token: Any) -> str | None:
    """Return the text of a token, which is kept as a text or as an object with settings."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
