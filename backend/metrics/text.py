"""Metrics of written text as evaluate.Metric, with sacreBLEU and rouge-score beneath."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from backend.metrics.classification import InMemoryMetric
from backend.text.cjk import language as written
from backend.text.cjk import words

ROUGE = ("rouge1", "rouge2", "rougeL")
# Names of languages, in the forms that data sets and models use -> how sacreBLEU splits them. Japanese is split to
# characters, for words would take a dictionary.
TOKENIZERS = {"zh": "zh", "zho": "zh", "cmn": "zh", "yue": "zh", "chinese": "zh", "ja": "char", "jpn": "char"}


class Bleu(InMemoryMetric):
    """The share of right word sequences, 0 to 100, and the length of the answers as a share of the references'."""

    summary = "The share of right word sequences, 0 to 100."

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str], tokenize: str = "13a"
    ) -> dict[str, float]:
        # force: without it a note about texts that look tokenized already goes to the terminal.
        score = BLEU(tokenize=tokenize, force=True).corpus_score(list(predictions), [list(references)])
        return {"bleu": float(score.score), "length_ratio": float(score.ratio)}


class ChrF(InMemoryMetric):
    """The F score of right character sequences, 0 to 100."""

    summary = "The F score of right character sequences, 0 to 100."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"chrf": float(CHRF().corpus_score(list(predictions), [list(references)]).score)}


class Rouge(InMemoryMetric):
    """The F scores of right words, pairs of words and longest common sequence, 0 to 1, and the lengths in words."""

    summary = "The F scores of right words, pairs of words and longest common sequence, 0 to 1."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        scorer = RougeScorer(ROUGE, tokenizer=_Words())
        scores = [scorer.score(truth, answer) for answer, truth in zip(predictions, references, strict=True)]
        return {
            **{name: fmean(float(score[name].fmeasure) for score in scores) for name in ROUGE},
            "mean_length": fmean(len(words(answer)) for answer in predictions),
            "mean_reference_length": fmean(len(words(truth)) for truth in references),
        }


def translation_metrics(answers: Sequence[str], references: Sequence[str], language: str) -> dict[str, float]:
    """Return BLEU, split as the language wants it, the ratio of the lengths, and chrF."""
    tokenize = bleu_tokenizer(language, references)
    bleu: dict[str, float] = Bleu().compute(predictions=answers, references=references, tokenize=tokenize)
    chrf: dict[str, float] = ChrF().compute(predictions=answers, references=references)
    return bleu | chrf


def rouge_metrics(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L and the mean lengths; Chinese and Japanese count by character."""
    metrics: dict[str, float] = Rouge().compute(predictions=answers, references=references)
    return metrics


def bleu_tokenizer(language: str, references: Sequence[str]) -> str:
    """Return how sacreBLEU splits a language; one without a name is known by its writing."""
    name = (language or written(references)).lower().replace("_", "-").split("-")[0]
    return TOKENIZERS.get(name, "13a")


class _Words:
    """rouge-score's own way to split drops whatever is not ASCII."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)
