"""Token ids from a model that predicts the next one: greedily, by sampling or by beam search. numpy alone.

The trainer, the page and the ONNX server share it: two models that predict the same write the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from backend.interfaces import Array, Generation

Batch = Mapping[str, Array]  # model input -> ids padded on the right, rows first
Going = Callable[[bool], bool]  # told whether this process has unfinished rows; says whether any process has

IMPOSSIBLE = np.float32(-1e9)  # the score of what must not be taken, as in transformers


class StepModel(Protocol):
    """A model that reads prompts and then takes one token after the other, with what it computed before kept."""

    longest: int | None  # tokens that it can tell apart by position, the prompt included; None: any number

    def written(self, batch: Batch) -> list[list[int]]:
        """Return for each row the tokens that stand before the first new one."""

    def start(self, batch: Batch, beams: int, room: int) -> Array:
        """Read each prompt for `beams` sequences of up to `room` new tokens; return logits (sequences, vocabulary)."""

    def step(self, tokens: Array, origin: Array) -> Array:
        """Append a token to each sequence, which goes on from the former sequence `origin`; return the next logits."""


def generate(
    model: StepModel, batch: Batch, settings: Generation, stop_ids: Sequence[int], going: Going = bool
) -> list[list[int]]:
    """Return the new tokens of every row, without the one that ended it.

    Where a forward pass needs all processes, as under ZeRO-3, `going` must return the same in all of them.
    """
    if settings.num_beams > 1:
        return _beam_search(model, batch, settings, stop_ids, going)
    rows: list[list[int]] = [[] for _ in batch["input_ids"]]
    for tokens in _write(model, batch, settings, stop_ids, going):
        for row, token in zip(rows, tokens, strict=True):
            if token is not None:
                row.append(token)
    return rows


def stream(model: StepModel, batch: Batch, settings: Generation, stop_ids: Sequence[int]) -> Iterator[int]:
    """Yield the new tokens of one row as they come; those of a beam search all come at its end."""
    if settings.num_beams > 1:
        yield from _beam_search(model, batch, settings, stop_ids, bool)[0]
        return
    for (token,) in _write(model, batch, settings, stop_ids, bool):
        if token is not None:
            yield token


def prompts(batch: Batch) -> list[list[int]]:
    """Return the tokens of every row, without the padding."""
    masks = batch["attention_mask"].astype(bool)
    return [ids[mask].tolist() for ids, mask in zip(batch["input_ids"], masks, strict=True)]


def left_padded(batch: Batch) -> tuple[Array, Array]:
    """Return the ids of the prompts and their mask with the padding before them: (rows, longest prompt) each."""
    rows = prompts(batch)
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(rows):
        ids[row, ids.shape[1] - len(prompt) :] = prompt
        mask[row, ids.shape[1] - len(prompt) :] = 1
    return ids, mask


class _Rules:
    """What the settings make of a model's scores, and when a row has ended."""

    def __init__(self, model: StepModel, batch: Batch, settings: Generation, stop_ids: Sequence[int]) -> None:
        self.settings = settings
        self.stop_ids = frozenset(stop_ids)
        self.filler = min(self.stop_ids, default=0)  # goes on a row that has ended, and is never looked at
        self.prompts = model.written(batch)
        most = settings.max_new_tokens
        if model.longest is None:
            self.limits = [most] * len(self.prompts)
        else:  # the last token is never read, so it needs no position
            self.limits = [max(0, min(most, model.longest + 1 - len(prompt))) for prompt in self.prompts]
        self.room = max(self.limits)
        # Seeded by the row itself: what is drawn does not depend on the rows beside it.
        self.draws = [np.random.default_rng([settings.seed, *row]) for row in prompts(batch)]

    def adjust(self, scores: Array, history: Sequence[int]) -> Array:
        """Return the scores of the next token of a sequence, changed in place."""
        settings = self.settings
        if settings.repetition_penalty != 1:
            seen = np.unique(np.asarray(history, dtype=np.int64))
            found = scores[seen]
            penalty = np.float32(settings.repetition_penalty)
            scores[seen] = np.where(found < 0, found * penalty, found / penalty)
        if settings.no_repeat_ngram_size:
            scores[_repeats(history, settings.no_repeat_ngram_size)] = -np.inf
        if settings.do_sample:
            self._warp(scores)
        return scores

    def _warp(self, scores: Array) -> None:
        settings = self.settings
        scores /= np.float32(settings.temperature)
        kept = 1 if settings.num_beams == 1 else 1 + max(1, len(self.stop_ids))
        if 0 < settings.top_k < len(scores):
            count = max(settings.top_k, kept)
            scores[scores < np.partition(scores, -count)[-count]] = -np.inf
        if settings.top_p < 1:
            order = np.argsort(scores, kind="stable")
            beyond = np.cumsum(np.exp(_log_softmax(scores[order]))) <= 1 - settings.top_p
            beyond[-kept:] = False
            scores[order[beyond]] = -np.inf


def _write(
    model: StepModel, batch: Batch, settings: Generation, stop_ids: Sequence[int], going: Going
) -> Iterator[list[int | None]]:
    """Yield the next token of every row, step by step; None for a row that has ended."""
    rules = _Rules(model, batch, settings, stop_ids)
    plain = not settings.do_sample and settings.repetition_penalty == 1 and not settings.no_repeat_ngram_size
    histories = [list(prompt) for prompt in rules.prompts]
    left = list(rules.limits)
    everyone = np.arange(len(left))
    logits = model.start(batch, 1, rules.room)
    while True:
        best = logits.argmax(-1) if plain else None
        tokens: list[int | None] = [None] * len(left)
        for row in everyone[np.asarray(left) > 0]:
            token = int(best[row]) if best is not None else _pick(rules, logits[row], histories[row], rules.draws[row])
            left[row] = 0 if token in rules.stop_ids else left[row] - 1
            if token not in rules.stop_ids:
                tokens[row] = token
                histories[row].append(token)
        yield tokens
        if not going(any(left)):
            return
        fed = [rules.filler if token is None else token for token in tokens]
        logits = model.step(np.asarray(fed, dtype=np.int64), everyone)


def _pick(rules: _Rules, logits: Array, history: Sequence[int], draw: np.random.Generator) -> int:
    scores = rules.adjust(logits.astype(np.float32), history)
    if not rules.settings.do_sample:
        return int(scores.argmax())
    shares = np.cumsum(np.exp(_log_softmax(scores)), dtype=np.float64)
    return int(np.searchsorted(shares, draw.random() * shares[-1], side="right"))


class _Beams:
    """The beam search of one row: its open sequences and the best of those that have ended."""

    def __init__(self, rules: _Rules, row: int) -> None:
        self._rules, self._prompt, self._draw = rules, rules.prompts[row], rules.draws[row]
        self._count = rules.settings.num_beams
        self._limit = rules.limits[row]
        self._open: list[list[int]] = [[] for _ in range(self._count)]
        # All begin alike, so only the first may be continued.
        self._scores = np.asarray([0] + [IMPOSSIBLE] * (self._count - 1), dtype=np.float32)
        self._ended: list[tuple[np.float32, list[int]]] = []  # the best first
        self.going = self._limit > 0

    @property
    def best(self) -> list[int]:
        """The tokens of the best sequence that has ended."""
        return self._ended[0][1] if self._ended else []

    def advance(self, logits: Array) -> tuple[list[int], list[int]]:
        """Continue the open sequences; return the token that each got and which former one it goes on from."""
        if not self.going:
            return [self._rules.filler] * self._count, list(range(self._count))
        kept: list[tuple[np.float32, int, int]] = []
        for rank, (score, beam, token) in enumerate(self._candidates(logits)):
            written = self._open[beam]
            stops = token in self._rules.stop_ids
            if stops or len(written) + 1 >= self._limit:
                if rank < self._count:  # the others are only there to go on from
                    self._end(score, written if stops else [*written, token], len(written) + 1)
            elif len(kept) < self._count:
                kept.append((score, beam, token))
        if not kept:
            self.going = False
            return self.advance(logits)
        self._open = [[*self._open[beam], token] for _, beam, token in kept]
        self._scores = np.asarray([score for score, _, _ in kept], dtype=np.float32)
        self.going = self._may_improve()
        return [token for _, _, token in kept], [beam for _, beam, _ in kept]

    def _candidates(self, logits: Array) -> list[tuple[np.float32, int, int]]:
        """Return the likeliest continuations of all open sequences: enough to go on if the first ones all stop."""
        scores = _log_softmax(logits.astype(np.float32))
        for beam, written in enumerate(self._open):
            scores[beam] = self._rules.adjust(scores[beam], [*self._prompt, *written])
        total = (scores + self._scores[:, None]).reshape(-1)
        keys = total + self._draw.gumbel(size=total.shape) if self._rules.settings.do_sample else total
        count = min(len(keys), max(2, 1 + len(self._rules.stop_ids)) * self._count)
        likeliest = np.argpartition(keys, -count)[-count:]
        likeliest = likeliest[np.lexsort((likeliest, -keys[likeliest]))]
        size = logits.shape[-1]
        return [(total[place], int(place) // size, int(place) % size) for place in likeliest]

    def _end(self, score: np.float32, tokens: list[int], length: int) -> None:
        self._ended.append((score / np.float32(length**self._rules.settings.length_penalty), tokens))
        self._ended.sort(key=lambda ended: -ended[0])
        del self._ended[self._count :]

    def _may_improve(self) -> bool:
        length = np.float32(len(self._open[0]) ** self._rules.settings.length_penalty)
        return len(self._ended) < self._count or bool(self._scores[0] / length > self._ended[-1][0])


def _beam_search(
    model: StepModel, batch: Batch, settings: Generation, stop_ids: Sequence[int], going: Going
) -> list[list[int]]:
    rules = _Rules(model, batch, settings, stop_ids)
    beams = settings.num_beams
    rows = [_Beams(rules, row) for row in range(len(rules.prompts))]
    logits = model.start(batch, beams, rules.room)
    while True:
        advanced = [row.advance(logits[n * beams : (n + 1) * beams]) for n, row in enumerate(rows)]
        if not going(any(row.going for row in rows)):
            return [row.best for row in rows]
        tokens = np.asarray([token for tokens, _ in advanced for token in tokens], dtype=np.int64)
        origin = np.asarray([n * beams + beam for n, (_, former) in enumerate(advanced) for beam in former])
        logits = model.step(tokens, origin)


def _repeats(history: Sequence[int], size: int) -> list[int]:
    """Return the tokens that would end a run of `size` tokens that stands there already."""
    last = tuple(history[len(history) - size + 1 :])
    runs = (history[start : start + size] for start in range(len(history) - size + 1))
    return [run[-1] for run in runs if tuple(run[:-1]) == last]


def _log_softmax(scores: Array) -> Array:
    shifted: Array = scores - scores.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted
