"""Words that a pretrained model holds to be alike: neighbours among its embeddings, or guesses at masked words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backend.errors import UserError
from backend.interfaces import Array
from backend.text.cjk import language
from backend.text.edits import Edit, Passage, in_case_of
from backend.text.words import Span, words

if TYPE_CHECKING:
    from tokenizers import Encoding

    from backend.methods import Material

BATCH = 32  # texts that the model is asked about together
LONGEST = 512  # tokens of a text; words beyond stay as they are
INSIDE, BEGINS = "##", ("\u0120", "\u2581")  # marks of a token: of a part of a word, of the beginning of one
KEY = "augment.synonyms.by"

Choices = list[tuple[int, float]]  # tokens, and how likely each is to be taken


class Slot(NamedTuple):
    """A word of a text that is one token."""

    place: Span
    position: int
    token: int


class Substitutes(ABC):
    """Replaces words that are one token each by others that are."""

    def __init__(self, material: Material, options: Any) -> None:
        self.tokenizer = material.context.tokenizer
        self.random = material.random
        self.candidates: int = options.candidates
        tokens = [self.tokenizer.token(number) for number in range(self.tokenizer.size)]
        marked = any(token.startswith(BEGINS) for token in tokens)
        self.words = [self.tokenizer.text([number]).strip() for number in range(len(tokens))]
        self.kinds: Array = np.array([_kind(*pair, marked=marked) for pair in zip(tokens, self.words, strict=True)])

    @abstractmethod
    def choices(self, encodings: Sequence[Encoding], slots: Sequence[Sequence[Slot]]) -> Iterator[list[Choices]]:
        """Yield for each text what may stand in each of its slots; nothing where no other word may."""

    def look_up(self, tokens: set[int]) -> set[int]:
        """Return those of some tokens for which there may be others."""
        return tokens

    def edits(self, passages: Sequence[Passage], rate: float) -> Iterator[list[Edit]]:
        """Yield the replacements in each text: of a share of its words, as far as others are known."""
        for start in range(0, len(passages), BATCH):
            part = passages[start : start + BATCH]
            encodings = self.tokenizer.encodings([passage.text for passage in part], LONGEST)
            found = [list(self._slots(*pair)) for pair in zip(part, encodings, strict=True)]
            known = self.look_up({slot.token for slots in found for slot in slots})
            drawn = [
                self._drawn([slot for slot in slots if slot.token in known], rate * len(passage.words()))
                for passage, slots in zip(part, found, strict=True)
            ]
            for passage, slots, choices in zip(part, drawn, self.choices(encodings, drawn), strict=True):
                yield [self._edit(passage, *pair) for pair in zip(slots, choices, strict=True) if pair[1]]

    def _slots(self, passage: Passage, encoding: Encoding) -> Iterator[Slot]:
        """Yield the tokens that are words; a word of Chinese or Japanese may be several characters."""
        places = words(passage.text)
        starts, ends = {start for start, _ in places}, {end for _, end in places}
        for position, (token, (start, end)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True)):
            first = start + len(passage.text[start:end]) - len(passage.text[start:end].lstrip())
            if self.kinds[token] and first in starts and end in ends and passage.free(first, end):
                yield Slot((first, end), position, token)

    def _drawn(self, slots: Sequence[Slot], count: float) -> list[Slot]:
        order = self.random.permutation(len(slots))[: max(1, round(count))]
        return [slots[number] for number in sorted(order.tolist())]

    def _edit(self, passage: Passage, slot: Slot, choices: Choices) -> Edit:
        weights = np.array([weight for _, weight in choices])
        token = choices[int(self.random.choice(len(choices), p=weights / weights.sum()))][0]
        start, end = slot.place
        return Edit(start, end, in_case_of(passage.text[start:end], self.words[token]))

    def best(self, scores: Array, token: int) -> Choices:
        """Return the tokens with the highest scores that may stand for a token: words of its kind, and not itself."""
        allowed = np.where(self.kinds == self.kinds[token], scores, -np.inf)
        allowed[token] = -np.inf
        likeliest = np.argpartition(-allowed, min(self.candidates, len(allowed) - 1))[: self.candidates]
        own = self.words[token].lower()
        ordered = sorted(likeliest.tolist(), key=lambda number: (-allowed[number], number))
        found = [(number, float(allowed[number])) for number in ordered if allowed[number] > -np.inf]
        return [(number, score) for number, score in found if self.words[number].lower() != own]


class Neighbours(Substitutes):
    """The words whose embeddings point where those of a word do."""

    def __init__(self, material: Material, options: Any) -> None:
        super().__init__(material, options)
        from transformers import AutoModel

        model = _load(AutoModel, material)
        table = model.get_input_embeddings().weight.detach().float().numpy()[: len(self.words)]
        self._table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        self._least: float = options.similarity
        self._near: dict[int, Choices] = {}

    def look_up(self, tokens: set[int]) -> set[int]:
        """Return the tokens that have neighbours."""
        new = sorted(tokens - self._near.keys())
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            for token, cosines in zip(part, self._table[part] @ self._table.T, strict=True):
                near = self.best(cosines, token)
                self._near[token] = [(other, 1.0) for other, cosine in near if cosine >= self._least]
        return {token for token in tokens if self._near[token]}

    def choices(self, encodings: Sequence[Encoding], slots: Sequence[Sequence[Slot]]) -> Iterator[list[Choices]]:
        """Yield the neighbours, each as likely."""
        yield from ([self._near[slot.token] for slot in of_text] for of_text in slots)


class Masked(Substitutes):
    """What a masked language model puts where words are hidden from it, by how sure it is."""

    def __init__(self, material: Material, options: Any) -> None:
        super().__init__(material, options)
        import torch
        from transformers import AutoModelForMaskedLM

        mask = self.tokenizer.id("mask")
        if mask is None:
            raise UserError(f'{KEY} is "masked", but the tokenizer of the model has no mask; choose "neighbours"')
        self._mask = mask
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = _load(AutoModelForMaskedLM, material).to(self._device)

    def choices(self, encodings: Sequence[Encoding], slots: Sequence[Sequence[Slot]]) -> Iterator[list[Choices]]:
        """Yield the likeliest words; all slots of a text are masked at once."""
        import torch

        size = max(len(encoding.ids) for encoding in encodings)
        ids = torch.full((len(encodings), size), self.tokenizer.pad_id)
        mask = torch.zeros_like(ids)
        for row, (encoding, of_text) in enumerate(zip(encodings, slots, strict=True)):
            ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
            mask[row, : len(encoding.ids)] = 1
            ids[row, [slot.position for slot in of_text]] = self._mask
        with torch.inference_mode():
            logits = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device)).logits
        for row, of_text in enumerate(slots):
            chances = logits[row, [slot.position for slot in of_text], : len(self.words)].float().softmax(dim=-1)
            yield [self.best(one, slot.token) for one, slot in zip(chances.cpu().numpy(), of_text, strict=True)]


def _kind(token: str, word: str, *, marked: bool) -> str:
    """Return what may stand for a token: words of its kind; "" if it is no word."""
    if not word.isalpha() or token.startswith(INSIDE):
        return ""
    if language([word]):
        return f"{len(word)} characters"
    return "word" if len(word) > 1 and (token.startswith(BEGINS) or not marked) else ""


def _load(loader: Any, material: Material) -> Any:
    """Load the job's model in fp32. Raises UserError if it has not what is asked of it."""
    with _quiet():
        try:
            model, found = loader.from_pretrained(
                material.model,
                revision=material.revision,
                output_loading_info=True,
                use_safetensors=True,
                trust_remote_code=False,
            )
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f'{KEY}: the model cannot be asked: {first}; choose "table"') from error
    if loader.__name__.endswith("LM") and found["missing_keys"]:
        raise UserError(f'{KEY} is "masked", but the model has not learned to tell masked words; choose "neighbours"')
    return model.eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from telling of the heads that are not needed here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(40)  # as in the logging of Python: errors
    try:
        yield
    finally:
        logging.set_verbosity(before)
