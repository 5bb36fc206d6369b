from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import pytest

from backend.data.collecting import Collected, collect, no_progress_bars
from backend.data.opening import local_path, open_source, stamp
from backend.data.reading import Record
from backend.data.samples import HERE, SAMPLES
from backend.errors import UserError
from backend.spec import Data
from backend.tasks import TASKS

Write = Callable[[str, str | bytes], str]
Collect = Callable[..., Collected]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with no_progress_bars():
        yield


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def message(name: str, split: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        open_source(Data.model_validate({"train": "x", split: name}), split, {})
    return str(caught.value)


def test_a_missing_file_is_compared_with_its_neighbours(write: Write) -> None:
    for name in ("reviews.csv", "review_2.csv", "unrelated.parquet", "reviews.txt"):
        write(name, "")

    assert message("review.csv") == (
        'data.train: the file "review.csv" does not exist; its folder has reviews.csv, review_2.csv'
    )


def test_a_missing_file_without_neighbours(write: Write, tmp_path: Path) -> None:
    write("other.txt", "")

    assert message("review.csv", "test") == (
        f'data.test: the file "review.csv" does not exist; nothing in {tmp_path} has a similar name'
    )


def test_a_file_in_a_missing_folder(write: Write) -> None:
    write("other.txt", "")

    assert message("./nowhere/reviews") == (
        'data.train: the file "./nowhere/reviews" does not exist; neither does the folder "nowhere"'
    )


def test_an_unknown_extension_is_answered_with_the_known_ones(write: Write) -> None:
    assert message(write("reviews.xlsx", "")) == (
        'data.train: "reviews.xlsx" has an unknown extension; '
        "this task reads .csv, .tsv, .json, .jsonl, .ndjson, .parquet: save it as one of these"
    )


def test_an_unknown_sample_is_answered_with_the_known_ones() -> None:
    assert message("sample:movies") == (
        'data.train: there is no sample "sample:movies"; there are ' + ", ".join(f"sample:{name}" for name in SAMPLES)
    )


def test_an_unknown_encoding_is_answered_with_common_ones(write: Write) -> None:
    with pytest.raises(UserError) as caught:
        open_source(Data(train=write("r.csv", "text\na\n"), encoding="utf-9"), "train", {})

    assert str(caught.value) == ('data.encoding: there is no encoding "utf-9"; common ones are utf-8, gb18030, cp1252')


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_there_and_without_faults(name: str, tmp_path: Path) -> None:
    task = TASKS[SAMPLES[name].task]
    found = collect(Data(train=f"sample:{name}"), task, task.Options.model_validate({}), tmp_path)
    assert len(found.splits["train"]) >= 40
    assert (HERE / SAMPLES[name].file).with_suffix(".LICENSE").is_file()


def test_every_task_has_a_sample() -> None:
    assert {sample.task for sample in SAMPLES.values()} == TASKS.keys()


@pytest.mark.usefixtures("offline", "own_cache")
@pytest.mark.parametrize("name", ["imdb", "owner/name", "owner/name:train[:10]"])
def test_a_hub_data_set_without_network_says_what_to_do(name: str) -> None:
    assert message(name) == (
        f'data.train: "{name}" is no file here, and the Hugging Face hub could not be reached to look for it there. '
        "Check the network and HF_HUB_OFFLINE, or download the data set on a machine with network and name its file"
    )


@pytest.mark.usefixtures("offline", "own_cache")
def test_a_data_set_in_a_folder_is_loaded_as_from_the_hub(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = {"text": ["a", "b", "c"], "label": [1, 0, -1]}
    folder = tmp_path / "reviews" / "data"
    folder.mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train-00000-of-00001.parquet")

    source = open_source(Data(train=str(folder.parent)), "train", {})

    assert source.columns == ("text", "label")
    assert list(source.items) == [
        Record(1, None, {"text": "a", "label": "pos"}),
        Record(2, None, {"text": "b", "label": "neg"}),
        Record(3, None, {"text": "c", "label": None}),
    ]


@pytest.mark.usefixtures("offline", "own_cache")
def test_a_split_that_a_data_set_lacks_is_answered_with_those_that_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\na,b\n")

    text = message(str(folder), "test")

    assert text.startswith(f'data.test: "{folder}" could not be loaded as a data set: Unknown split "test". ')
    assert "Should be one of ['train']." in text
    assert text.endswith(f"(data.subset names a configuration of it, {folder}:SPLIT another split)")


@pytest.mark.usefixtures("offline", "own_cache")
def test_a_folder_without_data_is_no_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()

    assert message(str(folder)).startswith(f'data.train: "{folder}" could not be loaded as a data set: ')


def test_the_stamp_tells_a_changed_file_a_missing_file_and_no_file_apart(write: Write) -> None:
    name = write("r.csv", "text\na\n")
    before = stamp(name)
    write("r.csv", "text\nab\n")

    assert before
    assert stamp(name) not in {before, None, ""}
    assert stamp("gone.csv") is None
    assert stamp("owner/name") == ""


def test_the_stamp_of_a_folder_changes_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "train.csv").write_text("text\na\n")
    before = stamp(str(tmp_path))
    (tmp_path / "a" / "train.csv").write_text("text\nab\n")

    assert stamp(str(tmp_path)) != before


def test_a_hub_id_is_no_path() -> None:
    assert local_path("owner/name") is None
