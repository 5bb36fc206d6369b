"""One label out of several, told as the word that a masked language model puts into a pattern around the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from backend.errors import UserError
from backend.interfaces import Context, Features, Row
from backend.text.one_label import OneLabelTask
from backend.text.prompts import fill, mask_id, pattern_fault, pieces_within, shortened, word_ids
from backend.text.whole import TEXT, TEXT_PAIR, unknown_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MASK = "mask"


class PromptClassification(OneLabelTask):
    """One label out of several, told as a word in a pattern: learns from few examples, for the model can tell words.

    Schick and Schuetze 2021, Exploiting Cloze Questions for Few Shot Text Classification, arXiv:2001.07676.
    """

    title = "Prompt classification (few examples)"
    auto_model = "AutoModelForMaskedLM"

    class Options(OneLabelTask.Options):
        """Settings of prompt classification."""

        name: Literal["prompt-classification"] = "prompt-classification"
        pattern: str = Field(
            "{text} It was {mask}.",
            description="What the model reads: {text}, {text_pair} where there is one, and the word to tell: {mask}.",
        )
        verbalizers: dict[str, str] = Field(
            default_factory=dict,
            description="Label = the word of the model that stands for it, or several with | between, whose numbers "
            "are averaged; a label that is not named stands for itself.",
        )

        @field_validator("pattern")
        @classmethod
        def _places_are_known(cls, pattern: str) -> str:
            if fault := pattern_fault(pattern, (TEXT.name, MASK), (TEXT_PAIR.name,)):
                raise ValueError(fault)
            return pattern

    def settle(self, rows: Sequence[Row], options: Any) -> Any:
        """Return the options with a word for each label."""
        labels = self.labels(rows, options)
        for name in options.verbalizers:
            if name not in labels:
                raise UserError(f"task.verbalizers: {unknown_class(name, labels)}")
        words = {label: options.verbalizers.get(label, label) for label in labels}
        return options.model_copy(update={"verbalizers": words})

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode each row in the pattern; where that is too long, the text is cut and never the pattern."""
        verbalized(context)  # a word that the model has not is found before anything is read
        pattern, tokenizer = context.options.pattern, context.tokenizer
        names = _texts_of(pattern, context.columns)
        mask = tokenizer.token(mask_id(tokenizer))
        filled = [fill(pattern, {**{name: row[name] for name in names}, MASK: mask}) for row in rows]
        encodings = tokenizer.whole([one.text for one in filled])
        index = {name: number for number, name in enumerate(context.labels)}
        windows = []
        for row, one, encoding in zip(rows, filled, encodings, strict=True):
            texts = [pieces_within(encoding, one.places[name]) for name in names]
            # What looks like a mask in the text itself is left out: the word to tell is that of the pattern.
            masks = {piece for text in texts for piece in text if encoding.ids[piece] == mask_id(tokenizer)}
            pieces = [piece for piece in range(len(encoding)) if piece not in masks]
            texts = [[piece for piece in text if piece not in masks] for text in texts]
            kept = shortened(pieces, texts, context.options.max_length)
            features = tokenizer.features(encoding)
            features = {name: [values[piece] for piece in kept] for name, values in features.items()}
            if row.get("label") is not None:
                features["labels"] = [index[str(row["label"]).strip()]]
            windows.append([features])
        return windows

    def model_class(self) -> Any:
        """Return the masked language model that answers with the words of the labels."""
        from backend.heads.verbalizer_classifier import VerbalizerClassifier

        return VerbalizerClassifier

    def prepare(self, model: PreTrainedModel, context: Context) -> None:
        """Tell the model which of its words stand for the labels."""
        from backend.heads.verbalizer_classifier import verbalize

        verbalize(model, verbalized(context), mask_id(context.tokenizer))


def verbalized(context: Context) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of the words of each label. Raises UserError if a word is not one token of the model."""
    words = {label: context.options.verbalizers[label] for label in context.labels}
    return word_ids(words, context.options.pattern, context.tokenizer)


def _texts_of(pattern: str, columns: Sequence[str]) -> list[str]:
    """Return the texts that a pattern has. Raises UserError if the rows have others."""
    for name in (TEXT_PAIR.name,):
        place = f"{{{name}}}"
        if name in columns and place not in pattern:
            raise UserError(f'task.pattern: "{pattern}" has no {place}, but the rows have one; write where it stands')
        if name not in columns and place in pattern:
            raise UserError(f'task.pattern: "{pattern}" has {place}, but the rows have no such column; take it out')
    return [name for name in (TEXT.name, TEXT_PAIR.name) if name in columns]
