"""Texts said again in other words: translated there and back, or paraphrased, by models that the user names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from backend.errors import UserError
from backend.interfaces import Row, Task
from backend.methods import Augmentation, Material
from backend.text.edits import Edit, Passage, rewritten

if TYPE_CHECKING:
    from backend.spec import JobSpec

BATCH = 16  # texts that a model reads together
LONGEST = 512  # tokens of a text, where the model does not say; a longer one would lose its end, so it stays as it is


class BackTranslation(Augmentation):
    """Say each text again in other words."""

    title = "Back-translation and paraphrases"
    about = (
        "One model translates each text to another language and a second one back; or one model paraphrases it. "
        "Models of one direction, such as Marian or T5; takes long without a GPU."
    )
    paper = "Sennrich et al. 2016, Improving Neural Machine Translation Models with Monolingual Data, arXiv:1511.06709"
    places: ClassVar[tuple[str, ...]] = ("there", "back")

    class Options(Augmentation.Options):
        """The models, and how freely they write."""

        there: str = Field(
            "", description="A model folder or a hub model that translates the texts, or that paraphrases them."
        )
        back: str = Field("", description="The model that translates back; empty: the first one paraphrases.")
        there_prefix: str = Field("", description='Stands before each text for the first model: "paraphrase: ".')
        back_prefix: str = Field("", description="The same for the model that translates back.")
        temperature: float = Field(
            0.8, ge=0, le=2, description="Each token is drawn by its probability; below 1 bolder, 0: the likeliest one."
        )
        max_new_tokens: int = Field(256, ge=1, le=8192, description="Tokens of a new text at most.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that there is no model, and tasks in whose texts places are marked."""
        yield from super().faults(options, job, task)
        if not options.there:
            yield "needs there, a model that translates or paraphrases: a model folder or a hub model"
        if task.rewritable == "words":
            yield f"says whole texts again, but in those of {task.title} entities are marked; leave it out"
        if not options.temperature and options.copies > 1:
            yield "writes the likeliest text, which is the same each time; set copies to 1, or temperature above 0"

    def grow(self, rows: Sequence[Row], options: Any, material: Material) -> Iterator[Row]:
        """Yield rows whose texts are said in other words; one in which a text is too long gives none."""
        steps = [("there", options.there, options.there_prefix), ("back", options.back, options.back_prefix)]
        writers = [_Writer(key, name, prefix, options) for key, name, prefix in steps if name]

        def editor(passages: Sequence[Passage]) -> Iterator[Sequence[Edit]]:
            texts: list[str | None] = [None if passage.fixed else passage.text for passage in passages]
            for writer in writers:
                texts = writer.write(texts, int(material.random.integers(2**63)))
            for passage, text in zip(passages, texts, strict=True):
                yield [Edit(0, len(passage.text), text)] if text else []

        yield from rewritten(rows, options.copies, editor, material)


class _Writer:
    """A model that reads a text and writes another one. Raises UserError if it cannot be loaded."""

    def __init__(self, key: str, name: str, prefix: str, options: Any) -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        known: dict[str, Any] = {"trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name, **known)
            self._model: Any = AutoModelForSeq2SeqLM.from_pretrained(name, use_safetensors=True, **known)
        except (OSError, ValueError, ImportError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(
                f'augment.back_translation.{key}: "{name}" cannot be loaded as a model that reads one text and writes '
                f"another: {first}"
            ) from error
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.eval().to(self._device)
        self._prefix = prefix
        self._longest = min(self._tokenizer.model_max_length, LONGEST)
        self._settings: dict[str, Any] = {"max_new_tokens": options.max_new_tokens, "num_beams": 1, "do_sample": False}
        if options.temperature:
            self._settings |= {"do_sample": True, "temperature": options.temperature, "top_k": 0, "top_p": 0.95}

    def write(self, texts: Sequence[str | None], seed: int) -> list[str | None]:
        """Return what the model makes of each text; None stays None, and is made of what is too long."""
        import torch

        ids = {number: self._tokenizer(self._prefix + text)["input_ids"] for number, text in enumerate(texts) if text}
        fitting = sorted((number for number in ids if len(ids[number]) <= self._longest), key=lambda n: len(ids[n]))
        written: list[str | None] = [None] * len(texts)
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            for start in range(0, len(fitting), BATCH):
                part = fitting[start : start + BATCH]
                batch = self._tokenizer.pad({"input_ids": [ids[number] for number in part]}, return_tensors="pt")
                found = self._model.generate(**batch.to(self._device), **self._settings)
                said = self._tokenizer.batch_decode(found, skip_special_tokens=True)
                for number, text in zip(part, said, strict=True):
                    written[number] = text.strip() or None
        return written
