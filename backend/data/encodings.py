"""Text files that are not in the encoding that the job says: where they break, and which encoding may be meant."""

from __future__ import annotations

import codecs
from pathlib import Path

from backend.errors import Fault, UserError

BLOCK = 1 << 16
LOOK = 16 << 20  # bytes that are tried in other encodings
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
MULTIBYTE = ("gb18030", "shift_jis", "euc_kr", "big5")
SINGLE_BYTE = ("cp1252",)
ANYTHING = "latin-1"  # has a character for every byte, so that it is the last to be thought of


def codec(encoding: str) -> str:
    """Return the name for `open`, which leaves out a byte order mark. Raises UserError if there is no such encoding."""
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)  # rot13 and its kind are codecs too, but not of text files
    except LookupError as error:
        raise UserError(
            f'data.encoding: there is no encoding "{encoding}"; common ones are utf-8, gb18030, cp1252'
        ) from error
    return "utf-8-sig" if name == "utf-8" else name


def fault(path: Path, name: str, encoding: str) -> Fault:
    """Return where a file stops to be text in an encoding, and what to try."""
    offset, line, value = _broken_at(path, encoding)
    tried = suggest(path, encoding)
    hint = f"; it reads as {' or '.join(tried)}: save it as UTF-8, or say --data.encoding {tried[0]}"
    place = f"byte {offset} (0x{value:02x})" if value is not None else f"the end (byte {offset})"
    return Fault(file=name, line=line, problem=f"is not {encoding} text at {place}{hint}")


def suggest(path: Path, encoding: str) -> list[str]:
    """Return other encodings in which a file is text, the likeliest first."""
    with path.open("rb") as file:
        head = file.read(LOOK)
    for mark, name in BYTE_ORDER_MARKS.items():
        if head.startswith(mark) and codec(name) != codec(encoding):
            return [name]
    order = (*MULTIBYTE, *SINGLE_BYTE) if _paired(head) else (*SINGLE_BYTE, *MULTIBYTE)
    candidates = [name for name in ("utf-8", *order) if codec(name) != codec(encoding)]
    return [name for name in candidates if _decodes(head, name)][:2] or [ANYTHING]


def _paired(data: bytes) -> bool:
    """Tell whether bytes beyond ASCII come in runs, as in Chinese, rather than alone, as accents do."""
    alone = together = 0
    for part in data.translate(bytes(byte if byte > 127 else 32 for byte in range(256))).split():
        alone += len(part) == 1
        together += len(part) > 1
    return together > alone


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)  # a character that the end cuts is no fault
    except UnicodeDecodeError:
        return False
    return True


def _broken_at(path: Path, encoding: str) -> tuple[int, int, int | None]:
    """Return offset, line and value of the first byte that does not decode."""
    decoder = codecs.getincrementaldecoder(codec(encoding))()
    read, line = 0, 1
    with path.open("rb") as file:
        while True:
            block = file.read(BLOCK)
            waiting = decoder.getstate()[0]
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                start = error.start - len(waiting)
                line += block[: max(start, 0)].count(b"\n")
                return read + start, line, error.object[error.start] if block else None
            read += len(block)
            line += block.count(b"\n")
            if not block:
                return read, line, None
