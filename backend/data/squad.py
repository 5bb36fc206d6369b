"""JSON files in the form of SQuAD: articles of paragraphs of questions, read as a row for each question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backend.data.encodings import codec
from backend.data.reading import Item, Record, Source, read_json
from backend.errors import Fault

FORM = 'it must be as in SQuAD: {"data": [{"paragraphs": [{"context": ..., "qas": [...]}]}]}'


def read_squad(path: Path, name: str, encoding: str) -> Source:
    """Read SQuAD 1 or 2; a JSON file of any other form is read as usual. The whole file is held in memory."""
    try:
        value = json.loads(path.read_text(encoding=codec(encoding)))
    except ValueError:  # also what is no text in this encoding; the usual reader says what is wrong
        return read_json(path, name, encoding)
    articles = value.get("data") if isinstance(value, dict) else None
    if not (isinstance(articles, list) and any(isinstance(one, dict) and "paragraphs" in one for one in articles)):
        return read_json(path, name, encoding)
    questions = list(_questions(articles))
    learned = any("answers" in question for _, _, question in questions)
    columns = ("question", "context", "answers") if learned else ("question", "context")
    return Source(name, columns, _rows(questions, name), "SQuAD JSON")


def _questions(articles: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (place in the file, context, question); no context and no question where one of them is amiss."""
    for number, article in enumerate(articles):
        place = f"data[{number}]"
        for below, paragraph in _listed(article, "paragraphs", place):
            if paragraph is None or not isinstance(paragraph.get("context"), str):
                yield below, None, {}
                continue
            for where, question in _listed(paragraph, "qas", below):
                yield where, paragraph["context"], question or {}


def _listed(holder: Any, key: str, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a list with their places; None for what is none."""
    found = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        yield place, None
        return
    for number, one in enumerate(found):
        yield f"{place}.{key}[{number}]", one if isinstance(one, dict) else None


def _rows(questions: list[tuple[str, Any, Any]], name: str) -> Iterator[Item]:
    for row, (place, context, question) in enumerate(questions, start=1):
        if context is None or not isinstance(question.get("question"), str):
            missing = "question" if context is not None else "context"
            yield Fault(file=name, row=row, problem=f'{place} has no "{missing}" that is a text; {FORM}')
        else:
            yield Record(
                row, None, {"question": question["question"], "context": context, "answers": _answers(question)}
            )


def _answers(question: Mapping[str, Any]) -> Any:
    """Return the answers; SQuAD 2 says of a question that it has none, and lists plausible ones apart."""
    return [] if question.get("is_impossible") is True else question.get("answers")
