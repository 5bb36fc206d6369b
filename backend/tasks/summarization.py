"""A long text, said again in few words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from backend.interfaces import Column, Context, Generation, Layout, Prediction, Report, Row
from backend.text.seq2seq import Seq2Seq, examples, perplexity

# The names that other data sets give to the two columns.
NAMES = (("text", "summary"), ("document", "summary"), ("dialogue", "summary"), ("article", "highlights"))


class Summarization(Seq2Seq):
    """A long text, said again in few words."""

    title = "Summarization"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="source", description="The text to summarize."),
        Column(name="target", role="target", description="Its summary."),
    )
    metric = "rougeL"
    max_drop = 0.02

    class Options(Seq2Seq.Options):
        """Settings of summarization."""

        name: Literal["summarization"] = "summarization"
        max_length: int = Field(512, ge=4, description="Tokens of a source; what is longer is cut.")
        # Summaries are where a model repeats itself; four Chinese tokens can be a name that comes twice, five rarely.
        generation: Generation = Field(
            Generation(max_new_tokens=128, num_beams=4, no_repeat_ngram_size=5), description="How answers are written."
        )

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The task's own columns, or those of well-known data sets."""
        source, target = self.columns
        others = (
            Layout(
                f"{text}, {summary}",
                (source.model_copy(update={"name": text}), target.model_copy(update={"name": summary})),
                _renamed(text, summary),
            )
            for text, summary in NAMES
        )
        return (Layout("source, target", self.columns), *others)

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return ROUGE, the lengths of answers and references, and the perplexity."""
        from backend.metrics.text import rouge_metrics

        answers = [prediction["text"] for prediction in predictions]
        references = [str(row["target"]) for row in rows]
        table = examples({"reference": references, "answer": answers})
        return Report(metrics=rouge_metrics(answers, references) | perplexity(predictions), tables=(table,))


def _renamed(text: str, summary: str) -> Callable[[Row], Row]:
    def convert(values: Row) -> dict[str, Any]:
        row = {"source": values[text]}
        return {**row, "target": values[summary]} if summary in values else row

    return convert
