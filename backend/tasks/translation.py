"""A text in one language, written again in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from backend.interfaces import Column, Context, Layout, Prediction, Report, Row, Unreadable
from backend.text.cjk import language as written
from backend.text.seq2seq import Seq2Seq, examples, perplexity

if TYPE_CHECKING:
    from backend.text.edits import Change

EXAMPLE = '{"en": "Hello", "zh": "你好"}'
TEXTS = Column(name="translation", kind="json", optional=True, description=f"A text in each language: {EXAMPLE}.")


class Translation(Seq2Seq):
    """A text in one language, written again in another."""

    title = "Translation"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="source", description="The text to translate."),
        Column(name="target", role="target", description="Its translation."),
        TEXTS,
    )
    metric = "bleu"
    max_drop = 1.0

    class Options(Seq2Seq.Options):
        """Settings of translation."""

        name: Literal["translation"] = "translation"
        source_language: str = Field(
            "", description='Code of the language to read, such as "en"; empty: the first one of "translation".'
        )
        target_language: str = Field(
            "", description='Code of the language to write, such as "zh"; empty: found in the training rows.'
        )

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """A column for each text, or all languages in one column, as on the hub."""
        both = self.columns[:2]
        one = TEXTS.model_copy(update={"optional": False})
        return (
            Layout("source, target", both),
            Layout('translation: {"en": ..., "zh": ...}', (one,), _from_languages),
        )

    def settle(self, rows: Sequence[Row], options: Any) -> Any:
        """Choose the languages that the options leave open: by their order in the rows, or by the writing."""
        source, target = options.source_language, options.target_language
        texts: Mapping[str, Any] = next((row["translation"] for row in rows if row.get("translation")), {})
        source = source or next((language for language in texts if language != target), "")
        target = target or next((language for language in texts if language != source), "")
        if not target:
            target = written([str(row.get("target") or "") for row in rows])
        return options.model_copy(update={"source_language": source, "target_language": target})

    def pair(self, row: Row, options: Any) -> tuple[str, str | None]:
        """Return the source and the target of a row, by language where the row has several."""
        source, target = super().pair(row, options)
        texts = row.get("translation") or {}
        return texts.get(options.source_language) or source, texts.get(options.target_language) or target

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield an empty source, an empty target, and a language that is missing."""
        texts = row.get("translation")
        if not texts:
            yield from super().faults(row, labels, options)
            return
        for side in ("source_language", "target_language"):
            language = getattr(options, side)
            if not str(texts.get(language) or "").strip():
                found = ", ".join(key for key, text in texts.items() if text) or "nothing"
                yield "translation", f'has no text for "{language}" but for {found}; add it, or set task.{side}'

    def rewrite(self, row: Row, change: Change, options: Any) -> Row | None:
        """Return a row with another source, in the column of its language too."""
        source, _ = self.pair(row, options)
        new = change(source, ()).text
        if new == source:
            return None
        texts = row.get("translation")
        return {**row, "source": new, "translation": texts and {**texts, options.source_language: new}}

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return BLEU and chrF, the length of the answers against that of the references, and the perplexity."""
        from backend.metrics.text import translation_metrics

        pairs = [self.pair(row, context.options) for row in rows]
        answers = [prediction["text"] for prediction in predictions]
        references = [target or "" for _, target in pairs]
        metrics = translation_metrics(answers, references, context.options.target_language)
        table = examples({"source": [source for source, _ in pairs], "reference": references, "answer": answers})
        return Report(metrics=metrics | perplexity(predictions), tables=(table,))


def _from_languages(values: Row) -> Row:
    """Take the first language for the source and the second one for the target, until the options say otherwise."""
    texts = values["translation"]
    if not isinstance(texts, dict) or not texts:
        raise Unreadable("translation", f"is not texts by language; write it like {EXAMPLE}")
    for language, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise Unreadable("translation", f'holds {text!r} for "{language}"; give it a text')
    first, second = [*(text or None for text in texts.values()), None][:2]
    return {"source": first or second, "target": second, "translation": texts}
