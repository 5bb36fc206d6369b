"""Answers that are a part of a text: the forms they are kept in, what is wrong with them, the best spans. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from backend.interfaces import Array, Row, Unreadable

EXAMPLE = '{"text": ["Paris"], "answer_start": [12]}'
NO_ANSWER = '{"text": [], "answer_start": []}'
N_BEST = 20  # spans of a window that are kept

Span = tuple[float, int, int]  # the model's score, the first character, the one after the last


def canonical(answers: Any, column: str) -> dict[str, list[Any]]:
    """Return answers as {"text": [...], "answer_start": [...]}, whatever the form. Raises Unreadable."""
    if isinstance(answers, Mapping):
        texts, starts = answers.get("text"), _start(answers)
        if isinstance(texts, str) or texts is None:
            texts, starts = [texts or ""], [starts]
    elif isinstance(answers, list) and all(isinstance(answer, Mapping) for answer in answers):
        texts, starts = [answer.get("text") for answer in answers], [_start(answer) for answer in answers]
    else:
        raise Unreadable(column, f"is no answer; give it as {EXAMPLE}")
    if not (isinstance(texts, list) and isinstance(starts, list)):
        raise Unreadable(column, f'needs "text" and "answer_start", as in {EXAMPLE}')
    if len(texts) != len(starts):
        raise Unreadable(column, f"has {len(texts)} texts and {len(starts)} starts; every text needs its start")
    for text in texts:
        if not isinstance(text, str):
            raise Unreadable(column, f"has {text!r} for a text; give it as {EXAMPLE}")
    return {"text": texts, "answer_start": [_whole(start, column) for start in starts]}


def single(row: Row) -> dict[str, list[Any]]:
    """Return the answers of a row that has one and its start in columns of their own; no text: no answer."""
    answer = str(row["answer"] or "")
    if not answer.strip():
        return {"text": [], "answer_start": []}
    start = _whole(row.get("answer_start"), "answer_start")
    if problem := _misplaced(answer, start, str(row["context"] or "")):
        raise Unreadable("answer_start", problem)
    return {"text": [answer], "answer_start": [start]}


def faults(row: Row) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the answers of a row: they must stand in its context where they say."""
    answers = row.get("answers")
    if answers is None:
        yield "answers", f"is empty; give it {EXAMPLE}, or {NO_ANSWER} where the text has no answer"
        return
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        if problem := _misplaced(text, start, row["context"]):
            yield "answers", problem


def best_spans(start: Array, end: Array, longest: int) -> tuple[Array, Array, Array]:
    """Return scores, first and last places of the best spans of at most so many places, the best first."""
    if not len(start):
        return start, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    longest = min(longest, len(start))
    beyond = np.full(longest - 1, -np.inf)
    ends = np.lib.stride_tricks.sliding_window_view(np.concatenate([end, beyond]), longest)
    scores = (start[:, None] + ends).ravel()  # of each first place with each length
    likely = np.argpartition(-scores, min(N_BEST, len(scores) - 1))[:N_BEST]
    best = likely[np.lexsort((likely, -scores[likely]))]
    best = best[scores[best] > -np.inf]
    return scores[best], best // longest, best // longest + best % longest


def trimmed(spans: Sequence[Span], context: str) -> list[Span]:
    """Return the spans without white space at their ends, each once, the best first."""
    best: dict[tuple[int, int], float] = {}
    for score, start, end in spans:
        text = context[start:end]
        first = start + len(text) - len(text.lstrip())
        last = start + len(text.rstrip())
        if first < last:
            best[first, last] = max(score, best.get((first, last), score))
    ordered = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    return [(score, first, last) for (first, last), score in ordered]


def _start(answer: Mapping[str, Any]) -> Any:
    return answer.get("answer_start", answer.get("start"))


def _whole(start: Any, column: str) -> int:
    """Return a start as a number; a file of columns holds it as text."""
    if type(start) is int:
        return start
    if isinstance(start, str) and start.strip().isdecimal():
        return int(start)
    raise Unreadable(column, f"has a start of {start!r}; give the character at which the answer begins, counted from 0")


def _misplaced(text: str, start: int, context: str) -> str:
    """Return what is wrong with an answer and its place; "" if nothing is."""
    if not text.strip():
        return f"has an empty text; give it one, or {NO_ANSWER} where the text has no answer"
    if not 0 <= start < len(context):
        return f'has "{text}" begin at {start}, but the context has {len(context)} characters'
    found = context[start : start + len(text)]
    if found == text:
        return ""
    places = _places(context, text)
    hint = f"it begins at {places}" if places else "the context does not hold it"
    return f'the context has "{found}" at {start}, not "{text}"; {hint}'


def _places(context: str, text: str) -> str:
    """Return where a text stands, for a message: up to three places."""
    places: list[int] = []
    while len(places) < 3 and (place := context.find(text, places[-1] + 1 if places else 0)) >= 0:
        places.append(place)
    return " and ".join(map(str, places))
