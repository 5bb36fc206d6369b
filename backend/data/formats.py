"""Which reader reads a file: by its extension, or as the task says that reads an extension in a way of its own."""

from __future__ import annotations

from collections.abc import Mapping

from backend.data.conll import read_conll
from backend.data.plain_text import read_text
from backend.data.reading import Reader, read_csv, read_json, read_jsonl, read_parquet, read_tsv
from backend.data.squad import read_squad

FOLDER = "/"  # stands for a folder in a task's list of files

FORMATS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}
READERS: dict[str, Reader] = {"conll": read_conll, "squad": read_squad, "text": read_text}


def readers(files: Mapping[str, str]) -> dict[str, Reader]:
    """Return the reader of each extension for a task that reads `files` in its own way."""
    return {**FORMATS, **{extension: READERS[name] for extension, name in files.items()}}
