"""What `data.train` and its kind name: sample:NAME, a file, or a data set of the Hugging Face hub."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.data.formats import FOLDER, readers
from backend.data.reading import Item, Record, Source
from backend.data.samples import HERE, PREFIX, SAMPLES
from backend.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

    from backend.spec import Data

FILE_START = ("/", "./", "../", "~", "\\")


def open_source(data: Data, split: str, files: Mapping[str, str]) -> Source:
    """Open what the job names for train, validation or test; `files` are the task's own ways to read some extensions.

    Raises UserError if it is not there.
    """
    name, key = str(getattr(data, split)), f"data.{split}"
    path = local_path(name, key, files)
    if path is None or (path.is_dir() and FOLDER not in files):
        return _hub(name, data.subset, split)
    return open_file(path, name, data.encoding, key, files)


def open_file(path: Path, name: str, encoding: str, key: str, files: Mapping[str, str]) -> Source:
    """Open a file by its extension; `key` is the setting that names it. Raises UserError if it can't be read."""
    known = readers(files)
    reader = known.get(FOLDER if path.is_dir() else path.suffix.lower())
    if reader is None:
        extensions = ", ".join(extension for extension in known if extension != FOLDER)
        raise UserError(
            f'{key}: "{name}" has an unknown extension; this task reads {extensions}: save it as one of these'
        )
    try:
        return reader(path, name, encoding)
    except OSError as error:
        raise UserError(f'{key}: "{name}" cannot be read ({error.strerror or error})') from error


def local_path(name: str, key: str = "data", files: Iterable[str] = ()) -> Path | None:
    """Return the file or folder that a name means, or None for a hub id. Raises UserError if it is missing."""
    if name.startswith(PREFIX):
        return _sample(name, key)
    path = Path(name).expanduser()
    if path.exists():
        return path
    known = {*readers({}), *files}
    if path.suffix.lower() in known or name.startswith(FILE_START) or name.count("/") > 1:
        raise UserError(f'{key}: the file "{name}" does not exist{_similar(path, known)}')
    return None


def stamp(name: str) -> str | None:
    """Return what changes when a file or folder changes; None if it is gone, "" for a hub id."""
    try:
        path = local_path(name)
        files = [path, *sorted(path.rglob("*"))] if path else []
        states = [file.stat() for file in files]
    except (UserError, OSError):
        return None
    size, newest = sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)
    return f"{size} bytes, {newest}" if states else ""


def _sample(name: str, key: str) -> Path:
    sample = SAMPLES.get(name.removeprefix(PREFIX))
    if sample is None:
        raise UserError(
            f'{key}: there is no sample "{name}"; there are {", ".join(PREFIX + known for known in SAMPLES)}'
        )
    return HERE / sample.file


def _similar(path: Path, known: set[str]) -> str:
    if not path.parent.is_dir():
        return f'; neither does the folder "{path.parent}"'
    names = {file.name.lower(): file.name for file in path.parent.iterdir() if file.suffix.lower() in known}
    close = difflib.get_close_matches(path.name.lower(), list(names), n=3, cutoff=0.5)
    if close:
        return f"; its folder has {', '.join(names[name] for name in close)}"
    return f"; nothing in {path.parent.resolve()} has a similar name"


def _hub(name: str, subset: str, split: str) -> Source:
    data = _load(name, subset, split)

    def items() -> Iterator[Item]:
        classes = {key: feature for key, feature in data.features.items() if hasattr(feature, "int2str")}
        for row, values in enumerate(data, start=1):
            named = {key: _class_name(feature, values[key]) for key, feature in classes.items()}
            yield Record(row, None, {**values, **named})

    return Source(name, tuple(data.column_names), items(), "Hugging Face data set")


def _class_name(feature: Any, value: int | None) -> str | None:
    """Return the name of a class number; -1 stands for "no label" in many hub data sets."""
    return None if value is None or value < 0 else str(feature.int2str(value))


def _load(name: str, subset: str, split: str) -> Dataset:
    import datasets
    import httpx

    match = re.fullmatch(r"(.+?):([^:/]+)", name)
    path, part = match.groups() if match and not Path(name).exists() else (name, split)
    what = f'data.{split}: "{name}"'
    try:
        return datasets.load_dataset(path, subset or None, split=part)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UserError(
            f"{what} is neither a file here nor a data set of the Hugging Face hub that can be read; check the name, "
            "and log in with `hf auth login` if it is private or gated"
        ) from error
    except (ConnectionError, TimeoutError, httpx.TransportError) as error:
        raise UserError(
            f"{what} is no file here, and the Hugging Face hub could not be reached to look for it there. Check the "
            "network and HF_HUB_OFFLINE, or download the data set on a machine with network and name its file"
        ) from error
    except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError) as error:
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{what} could not be loaded as a data set: {first_line} "
            f"(data.subset names a configuration of it, {path}:SPLIT another split)"
        ) from error
