from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.data import prepare as module
from backend.data.prepare import Split, load_prepared, prepare
from backend.errors import DataError, UserError
from backend.spec import JobSpec, parse_job
from backend.tokenizer import Tokenizer

Write = Callable[[str, str | bytes], str]

TEXTS = "text,label\n" + "".join(f"a good film {number},positive\nbad {number},negative\n" for number in range(50))


def job(train: str, **settings: Any) -> JobSpec:
    return parse_job({"model": "unused", "data": {"train": train, **settings.pop("data", {})}, **settings})


@pytest.fixture
def prepared_folder(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    prepare(job(write("r.csv", TEXTS)), tokenizer, tmp_path / "data")
    return tmp_path / "data"


def test_the_splits_have_their_shares_and_classes(prepared_folder: Path) -> None:
    prepared = load_prepared(prepared_folder)

    assert prepared.labels == ("negative", "positive")
    assert prepared.counts == {"train": 80, "validation": 10, "test": 10}
    assert prepared.label_counts["train"] == {"positive": 40, "negative": 40}
    assert prepared.label_counts["test"] == {"positive": 5, "negative": 5}
    assert prepared.examples == prepared.counts
    assert prepared.form == "CSV with commas"
    assert prepared.columns == ("text", "label")


def test_a_split_gives_back_rows_and_their_encoding(prepared_folder: Path, tokenizer: Tokenizer) -> None:
    split = Split.open(prepared_folder, "train")
    indices = [7, 0, 7]

    rows, features = split.rows(indices), split.features(indices)

    encoded = tokenizer([row["text"] for row in rows], 256)
    labels = [["negative", "positive"].index(row["label"]) for row in rows]
    assert features == [{**inputs, "labels": [label]} for inputs, label in zip(encoded, labels, strict=True)]
    assert rows[0] == rows[2]
    assert split.lengths[indices].tolist() == [len(feature["input_ids"]) for feature in features]
    assert split.target_counts[indices].tolist() == [1, 1, 1]
    assert split.lengths.dtype == split.target_counts.dtype == "int32"


def test_all_rows_are_in_the_splits_once(prepared_folder: Path) -> None:
    texts = []
    for name in ("train", "validation", "test"):
        split = Split.open(prepared_folder, name)
        texts += [row["text"] for row in split.rows(range(len(split)))]

    assert sorted(texts) == sorted(line.split(",")[0] for line in TEXTS.splitlines()[1:])


def test_every_window_knows_its_row(prepared_folder: Path) -> None:
    split = Split.open(prepared_folder, "test")

    assert split.of_row.tolist() == list(range(10))
    assert split.windows([7, 2]) == [7, 2]
    assert split.features([]) == split.rows([]) == []
    train = Split.open(prepared_folder, "train")
    assert train.of_row.tolist() == list(range(len(train)))


def test_texts_that_were_cut_are_counted_and_reported(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    messages: list[str] = []
    spec = job(write("r.csv", TEXTS), task={"name": "text-classification", "max_length": 4})

    prepared = prepare(spec, tokenizer, tmp_path / "data", messages.append)

    assert prepared.cut == {"train": 40, "validation": 5, "test": 5}
    assert messages == [
        "reading r.csv",
        "CSV with commas; 80 train rows, 10 validation rows, 10 test rows; 2 classes: negative, positive",
        "cut 50 texts, which were too long (task.max_length)",
    ]
    assert Split.open(tmp_path / "data", "train").lengths.max() == 4


def test_files_of_their_own_are_not_split(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    validation = write("v.csv", "text,label\nfine,positive\nbad,negative\n")
    spec = job(write("r.csv", TEXTS), data={"validation": validation, "test_fraction": 0})

    prepared = prepare(spec, tokenizer, tmp_path / "data")

    assert prepared.counts == {"train": 100, "validation": 2}
    with pytest.raises(UserError, match="has no test rows; it has those of train, validation"):
        Split.open(tmp_path / "data", "test")


def test_max_rows_draws_from_every_class_before_the_split(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    prepared = prepare(job(write("r.csv", TEXTS), data={"max_rows": 40}), tokenizer, tmp_path / "data")

    assert prepared.counts == {"train": 32, "validation": 4, "test": 4}
    assert prepared.label_counts["train"] == {"positive": 16, "negative": 16}


def test_fewer_rows_than_classes_are_refused(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.max_rows 1 is less than the 2 classes; raise it"):
        prepare(job(write("r.csv", TEXTS), data={"max_rows": 1}), tokenizer, tmp_path / "data")


def test_a_class_that_a_split_lacks_is_a_warning(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    messages: list[str] = []

    prepared = prepare(job(write("r.csv", TEXTS + "wow,superb\n")), tokenizer, tmp_path / "data", messages.append)

    assert prepared.labels == ("negative", "positive", "superb")
    assert prepared.warnings == tuple(
        f'the {name} rows have none of class "superb" (training has 1), so that its score says nothing there; '
        "give the class more rows, or the split a larger share"
        for name in ("validation", "test")
    )
    assert messages[2:] == [f"warning: {warning}" for warning in prepared.warnings]


def test_many_classes_are_not_all_reported(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    messages: list[str] = []
    rows = "".join(f"a film,{number % 12}\n" for number in range(240))

    prepare(job(write("r.csv", "text,label\n" + rows)), tokenizer, tmp_path / "data", messages.append)

    assert messages[1].endswith("; 12 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more")


def test_declared_classes_keep_their_order(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    spec = job(write("r.csv", TEXTS), task={"name": "text-classification", "labels": ["positive", "negative"]})

    assert prepare(spec, tokenizer, tmp_path / "data").labels == ("positive", "negative")
    split = Split.open(tmp_path / "data", "train")
    pairs = zip(split.rows(range(9)), split.features(range(9)), strict=True)
    assert {(row["label"], feature["labels"][0]) for row, feature in pairs} == {("positive", 0), ("negative", 1)}


def test_prepared_rows_are_used_again(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    messages: list[str] = []
    spec = job(write("r.csv", TEXTS))

    first = prepare(spec, tokenizer, tmp_path / "data")
    again = prepare(spec, tokenizer, tmp_path / "data", messages.append)

    assert again == first
    assert messages == ["the rows are prepared already: 80 train rows, 10 validation rows, 10 test rows"]


def test_rows_of_a_file_that_is_gone_are_used_again(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    spec = job(write("r.csv", TEXTS))
    first = prepare(spec, tokenizer, tmp_path / "data")
    (tmp_path / "r.csv").unlink()

    assert prepare(spec, tokenizer, tmp_path / "data") == first


def test_a_changed_file_is_read_again(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    spec = job(write("r.csv", TEXTS))
    first = prepare(spec, tokenizer, tmp_path / "data")
    write("r.csv", TEXTS + "a bad film,negative\n")

    again = prepare(spec, tokenizer, tmp_path / "data")

    assert sum(again.counts.values()) == 101
    assert again.fingerprint != first.fingerprint
    assert load_prepared(tmp_path / "data") == again


def test_another_seed_divides_anew(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    name = write("r.csv", TEXTS)
    prepare(job(name), tokenizer, tmp_path / "data")
    before = Split.open(tmp_path / "data", "test").rows(range(10))

    prepare(job(name, seed=7), tokenizer, tmp_path / "data")

    assert Split.open(tmp_path / "data", "test").rows(range(10)) != before


def test_the_schedule_does_not_matter(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    name = write("r.csv", TEXTS)
    messages: list[str] = []
    prepare(job(name), tokenizer, tmp_path / "data")

    prepare(job(name, schedule={"epochs": 9}), tokenizer, tmp_path / "data", messages.append)

    assert len(messages) == 1


def test_half_prepared_rows_are_prepared_anew(prepared_folder: Path, write: Write, tokenizer: Tokenizer) -> None:
    (prepared_folder / "prepared.json").unlink()
    (prepared_folder / ".partial" / "train").mkdir(parents=True)  # as a killed process leaves it
    (prepared_folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="has no complete prepared rows"):
        Split.open(prepared_folder, "train")

    prepare(job(write("r.csv", TEXTS)), tokenizer, prepared_folder)

    assert sorted(path.name for path in prepared_folder.iterdir()) == [
        "notes.txt",
        "prepared.json",
        "test",
        "train",
        "validation",
    ]


def test_faults_leave_no_rows_behind(write: Write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        prepare(job(write("r.csv", TEXTS + ",positive\n")), tokenizer, tmp_path / "data")

    assert list((tmp_path / "data").iterdir()) == []


def test_the_rows_can_be_moved(prepared_folder: Path, tmp_path: Path) -> None:
    shutil.move(prepared_folder, tmp_path / "elsewhere")

    assert len(Split.open(tmp_path / "elsewhere", "validation")) == 10


def test_preparing_needs_no_torch_and_leaves_no_cache(write: Write, tokenizer_folder: Path, tmp_path: Path) -> None:
    write("r.csv", TEXTS)
    script = """
import sys
from pathlib import Path
from backend.data.prepare import Split, prepare
from backend.spec import parse_job
from backend.tokenizer import Tokenizer
job = parse_job({"model": "unused", "data": {"train": "r.csv"}})
prepare(job, Tokenizer.load(Path(sys.argv[1])), Path("data"))
Split.open(Path("data"), "train").features([0])
assert "torch" not in sys.modules
"""
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(module.__file__).parents[2]),
    }

    done = subprocess.run(
        [sys.executable, "-c", script, str(tokenizer_folder)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "cache").exists()
