"""Turns pretrained models into transformers folders that tests can load in a moment and train on a CPU."""

from __future__ import annotations

import csv
import json
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SPECIAL = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
METASPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # what a SentencePiece vocabulary writes for a space


def smollm2(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the Llama of a GGUF file as safetensors of full precision, with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    (content,) = files.values()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        (Path(scratch) / "model.gguf").write_bytes(content)
        loaded = AutoModelForCausalLM.from_pretrained(scratch, gguf_file="model.gguf", dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file="model.gguf")
    # What came from a GGUF file counts as quantized, and that is not saved: its weights move to a plain model.
    config = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**config)).float()
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def trim(source: Path, texts: Iterable[str], folder: Path) -> None:
    """Write an encoder whose SentencePiece vocabulary has only the pieces of some texts and single characters.

    Four fifths of a multilingual e5 are embeddings. Whatever is made of the pieces that stay gets the same states.
    """
    from tokenizers import Tokenizer
    from torch import nn
    from transformers import AutoModel, PreTrainedTokenizerFast

    content = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary: list[tuple[str, float]] = content["model"]["vocab"]
    used = pieces_of(Tokenizer.from_file(str(source / "tokenizer.json")), texts)
    special = set(SPECIAL.values())
    kept = [id_ for id_, (piece, _) in enumerate(vocabulary) if id_ in used or piece in special or is_single(piece)]
    fast = Tokenizer.from_str(json.dumps(renumbered(content, {old: new for new, old in enumerate(kept)})))
    names = {f"{name}_token": token for name, token in SPECIAL.items() if fast.token_to_id(token) is not None}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, model_max_length=512, **names)

    model = AutoModel.from_pretrained(source)
    weight = model.get_input_embeddings().weight.detach()[kept].clone()
    model.set_input_embeddings(nn.Embedding.from_pretrained(weight, padding_idx=tokenizer.pad_token_id))
    model.config.vocab_size, model.config.pad_token_id = len(kept), tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def pieces_of(tokenizer: Any, texts: Iterable[str]) -> set[int]:
    """Return the ids that texts are made of."""
    found: set[int] = set()
    tokenizer.no_truncation()
    for batch in batches(texts, 10_000):
        for encoding in tokenizer.encode_batch_fast(batch):
            found.update(encoding.ids)
    return found


def is_single(piece: str) -> bool:
    """Say whether a piece is one character that English or Chinese has; all digits and signs count."""
    character = piece.removeprefix(METASPACE) or METASPACE
    if len(character) != 1:
        return False
    return character.isascii() or not character.isalpha() or unicodedata.name(character, "").startswith("CJK ")


def renumbered(content: dict[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    """Return the content of a tokenizer.json that keeps only some ids, under new numbers."""
    vocabulary = content["model"]["vocab"]
    model = content["model"] | {"vocab": [vocabulary[old] for old in ids], "unk_id": ids[content["model"]["unk_id"]]}
    added = [token | {"id": ids[token["id"]]} for token in content["added_tokens"] if token["id"] in ids]
    processor = content["post_processor"]
    if processor:
        special = {
            name: token | {"ids": [ids[old] for old in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
        processor = processor | {"special_tokens": special}
    return content | {"model": model, "added_tokens": added, "post_processor": processor}


def lines_of(files: Sequence[Path]) -> Iterator[str]:
    """Yield the texts of CSV, JSON Lines and CoNLL files; of CoNLL sentences both with spaces and without."""
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                yield from (cell for row in csv.reader(file) for cell in row)
            elif path.suffix == ".jsonl":
                yield from (text for line in file for text in strings(json.loads(line)))
            else:
                yield from sentences(file)


def strings(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def sentences(lines: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of a CoNLL file, their tokens joined by a space and by nothing."""
    tokens: list[str] = []
    for line in [*lines, ""]:
        token = line.rstrip("\r\n").replace("\t", " ").rpartition(" ")[0]
        if token:
            tokens.append(token)
        elif tokens:
            yield " ".join(tokens)
            yield "".join(tokens)
            tokens = []


def batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield the texts in lists of some size."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
