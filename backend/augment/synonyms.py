"""Words replaced by others that a pretrained model, or a table of the user's, holds to be alike."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from backend.errors import UserError
from backend.interfaces import Row, Task
from backend.methods import Augmentation, Material
from backend.text.edits import Edit, Passage, in_case_of, rewritten
from backend.text.substitutes import Masked, Neighbours
from backend.text.words import Span, words

if TYPE_CHECKING:
    import numpy as np

    from backend.spec import JobSpec


class Synonyms(Augmentation):
    """Replace some words of each text."""

    title = "Other words"
    about = (
        "Words are replaced by such as the job's own model puts in their place, by neighbours among its embeddings, "
        "or by those of a table. A model also takes opposites to be alike: look at the new rows."
    )
    paper = "Kobayashi 2018, Contextual Augmentation, arXiv:1805.06201 (masked)"
    places: ClassVar[tuple[str, ...]] = ("table",)

    class Options(Augmentation.Options):
        """Which words are replaced, and by what."""

        by: Literal["neighbours", "masked", "table"] = Field(
            "neighbours",
            description="Nearest embeddings (any model); what a model of masked words puts there; or the table.",
        )
        table: str = Field("", description="A CSV file with a word and a synonym in each line, without a header.")
        rate: float = Field(0.15, gt=0, le=1, description="Share of the words that are replaced, at least one.")
        candidates: int = Field(5, ge=1, le=100, description="Words to choose from, the most alike ones.")
        similarity: float = Field(0.5, ge=-1, le=1, description="Neighbours: the least cosine of two embeddings.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that a table is needed, or would not be read."""
        yield from super().faults(options, job, task)
        if options.by == "table" and not options.table:
            yield 'by "table" needs table, a CSV file with a word and a synonym in each line'
        if options.by != "table" and options.table:
            yield f'table is not read where by is "{options.by}"; set by to "table", or leave the table out'

    def grow(self, rows: Sequence[Row], options: Any, material: Material) -> Iterator[Row]:
        """Yield rows with some words replaced; a row in which no word can be gives none."""
        if options.by == "table":
            table = _read(options.table)

            def by_table(passages: Sequence[Passage]) -> Iterator[Sequence[Edit]]:
                yield from (_by_table(passage, table, options.rate, material.random) for passage in passages)

            yield from rewritten(rows, options.copies, by_table, material)
            return
        model = (Masked if options.by == "masked" else Neighbours)(material, options)

        def by_model(passages: Sequence[Passage]) -> Iterator[Sequence[Edit]]:
            return model.edits(passages, options.rate)

        yield from rewritten(rows, options.copies, by_model, material)


Table = Mapping[str, Sequence[str]]  # a word in lower case -> its synonyms


def _read(name: str) -> Table:
    found: dict[str, list[str]] = defaultdict(list)
    try:
        with Path(name).expanduser().open(encoding="utf-8-sig", newline="") as file:
            for number, cells in enumerate(csv.reader(file), start=1):
                pair = [cell.strip() for cell in cells]
                if pair and (len(pair) != 2 or not all(pair)):
                    raise UserError(f"augment.synonyms.table: {name}, line {number}: needs a word, a comma, a synonym")
                if pair:
                    found[pair[0].lower()].append(pair[1])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'augment.synonyms.table: "{name}" cannot be read ({error}); name a CSV file') from error
    if not found:
        raise UserError(f'augment.synonyms.table: "{name}" is empty; write a word and a synonym in each line')
    return found


def _by_table(passage: Passage, table: Table, rate: float, random: np.random.Generator) -> list[Edit]:
    known = list(_known(passage, table))
    count = max(1, round(rate * len(passage.words())))
    edits = []
    for number in sorted(random.permutation(len(known))[:count].tolist()):
        start, end = known[number]
        old = passage.text[start:end]
        others = table[old.lower()]
        edits.append(Edit(start, end, in_case_of(old, others[int(random.integers(len(others)))])))
    return edits


def _known(passage: Passage, table: Table) -> Iterator[Span]:
    """Yield where a word of the table stands, of one or several words of the text: the longest of each place."""
    places = words(passage.text)
    longest = max(map(len, table))
    at = 0
    for number, (start, _) in enumerate(places):
        if start < at:
            continue
        ends = [end for _, end in places[number : number + longest] if end - start <= longest]
        for end in reversed(ends):
            if passage.text[start:end].lower() in table and passage.free(start, end):
                yield start, end
                at = end
                break
