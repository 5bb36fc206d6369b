from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.data.prepare import Prepared, Split, prepare
from backend.spec import parse_job
from backend.tokenizer import Tokenizer

Write = Callable[[str, str | bytes], str]

TEXTS = "text,label\n" + "".join(f"a good film {number},positive\nbad film {number},negative\n" for number in range(50))
SWAP = {"words": {"insert": 0, "delete": 0, "swap": 0.5}}


def prepared(folder: Path, tokenizer: Tokenizer, augment: dict[str, Any], messages: list[str]) -> Prepared:
    job = parse_job({"model": "unused", "data": {"train": "r.csv"}, "augment": augment})
    return prepare(job, tokenizer, folder, messages.append)


def test_new_rows_are_added_to_the_training_rows_alone_and_counted(
    write: Write, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    write("r.csv", TEXTS)
    messages: list[str] = []

    plain = prepared(tmp_path / "plain", tokenizer, {}, messages)
    grown = prepared(tmp_path / "grown", tokenizer, SWAP, messages)

    assert "added 80 rows by augment.words" in messages
    assert grown.added == {"augment.words": 80}
    assert grown.counts == {**plain.counts, "train": 160}
    assert grown.label_counts["train"] == {"positive": 80, "negative": 80}
    before, after = (Split.open(tmp_path / name, "train") for name in ("plain", "grown"))
    assert after.rows(range(80)) == before.rows(range(80))
    assert after.features(range(80)) == before.features(range(80))
    for old, new in zip(before.rows(range(80)), after.rows(range(80, 160)), strict=True):
        assert sorted(new["text"].split()) == sorted(old["text"].split())
        assert new["text"] != old["text"]
        assert new["label"] == old["label"]
    for name in ("validation", "test"):
        assert Split.open(tmp_path / "grown", name).rows(range(10)) == Split.open(tmp_path / "plain", name).rows(
            range(10)
        )


def test_rows_are_grown_anew_when_an_augmentation_changes(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    write("r.csv", TEXTS)
    messages: list[str] = []

    first = prepared(tmp_path / "data", tokenizer, SWAP, messages)
    again = prepared(tmp_path / "data", tokenizer, SWAP, messages)
    other = prepared(tmp_path / "data", tokenizer, {"words": {"copies": 0.5}}, messages)

    assert again == first
    assert messages[3].startswith("the rows are prepared already")
    assert 0 < other.added["augment.words"] < 80
    assert other.fingerprint != first.fingerprint
