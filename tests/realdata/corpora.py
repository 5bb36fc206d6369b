"""Turns the files of public packages into data files of the forms that people have."""

from __future__ import annotations

import csv
import gettext
import io
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

Files = Mapping[str, bytes]  # path inside a package -> content
Write = Callable[[Files, Path], None]

# What a translator does not translate: %s, %(name)s, {name}, markup.
PLACEHOLDER = re.compile(r"%(\(\w+\))?[sdifr]|\{\w*\}|<[^>]*>|&\w+;")


def unchanged(files: Files, path: Path) -> None:
    """Write the one file as it is."""
    (content,) = files.values()
    path.write_bytes(content)


def reviews(files: Files, path: Path) -> None:
    """Write reviews, one a line of pos.txt and neg.txt, as text,label: each once, none that stands in both."""
    lines = {
        {"pos": "positive", "neg": "negative"}[Path(name).stem]: dict.fromkeys(
            line.strip() for line in content.decode("utf-8-sig").split("\n") if line.strip()
        )
        for name, content in sorted(files.items())
    }
    both = lines["positive"].keys() & lines["negative"].keys()
    rows = [(text, label) for label, texts in lines.items() for text in texts if text not in both]
    random.Random(0).shuffle(rows)  # noqa: S311 - so that the first rows are of both classes
    path.write_text(as_csv(("text", "label"), rows), encoding="utf-8")


def translations(files: Files, path: Path) -> None:
    """Write what gettext catalogues translate as source,target, without what is placeholders or a single word."""
    pairs: dict[str, str] = {}
    for _, content in sorted(files.items()):
        catalogue = gettext.GNUTranslations(io.BytesIO(content))
        for key, target in catalogue._catalog.items():  # type: ignore[attr-defined] # there is no public way
            source = (key[0] if isinstance(key, tuple) else key).rpartition("\x04")[2]
            if is_sentence(source) and target.strip():
                pairs.setdefault(" ".join(source.split()), " ".join(target.split()))
    path.write_text(as_csv(("source", "target"), pairs.items()), encoding="utf-8")


def is_sentence(text: str) -> bool:
    """Say whether there are two words or more that are no placeholders."""
    return len(re.findall(r"[A-Za-z]{2,}", PLACEHOLDER.sub(" ", text))) >= 2


def papers(files: Files, path: Path) -> None:
    """Write articles with their highlights: abstract, introduction and conclusion; the challenge, approach, outcome."""
    rows = []
    for _, content in sorted(files.items()):
        for paper in map(json.loads, content.decode().splitlines()):
            article = " ".join(sentence for part in paper["sentences"].values() for sentence in part)
            rows.append({"article": article, "highlights": " ".join(paper["summary"].values())})
    path.write_text(as_json_lines(rows), encoding="utf-8")


def chats(files: Files, path: Path) -> None:
    """Write conversations of two people: who speaks first is the user, and the last turn is an assistant's."""
    (content,) = files.values()
    rows = []
    for conversation in json.loads(content).values():
        said = [(line["sender"], line["text"].strip()) for turn in conversation["messages"] for line in turn]
        said = [(sender, text) for sender, text in said if text]
        turns: list[tuple[str, list[str]]] = []
        for sender, text in said:
            if not turns or turns[-1][0] != sender:
                turns.append((sender, []))
            turns[-1][1].append(text)
        if len({sender for sender, _ in turns}) == 2:
            rows.append(messages(["\n".join(texts) for _, texts in turns]))
    path.write_text(as_json_lines(rows), encoding="utf-8")


def questions(files: Files, path: Path) -> None:
    """Write the conversations of ChatterBot's YAML files as messages."""
    import yaml

    rows = [
        messages([str(turn).strip() for turn in conversation])
        for _, content in sorted(files.items())
        for conversation in yaml.safe_load(content)["conversations"]
    ]
    path.write_text(as_json_lines(rows), encoding="utf-8")


def messages(turns: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """Let the user and the assistant take turns, and drop a last turn of the user."""
    roles = ("user", "assistant")
    return {
        "messages": [
            {"role": roles[number % 2], "content": text} for number, text in enumerate(turns[: len(turns) // 2 * 2])
        ]
    }


def as_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the text of a CSV file."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


def as_json_lines(rows: Iterable[object]) -> str:
    """Return the text of a JSON Lines file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
