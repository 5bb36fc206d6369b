"""The built-in samples: small, real where there is real data, licensed; `sample:NAME` means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from backend.interfaces import Options

HERE = Path(__file__).parent
PREFIX = "sample:"


class Sample(Options):
    """A built-in data set: its file beside this one, the task it is for, where it comes from, and how to learn it."""

    file: str
    task: str
    language: Literal["en", "zh", "en-zh"]
    description: str
    epochs: float  # enough for a small model, with this learning rate
    learning_rate: float


SAMPLES: dict[str, Sample] = {
    "movie-reviews": Sample(
        file="movie_reviews.csv",
        task="text-classification",
        language="en",
        description="4,800 sentences of film reviews, positive or negative (Hutto and Gilbert 2014, MIT).",
        epochs=2,
        learning_rate=0.0001,
    ),
    "faq-pairs": Sample(
        file="faq_pairs.csv",
        task="text-classification",
        language="en",
        description="Pairs of a question and a text that answers it or not (FAQ of a construction firm, CC-BY-4.0).",
        epochs=4,
        learning_rate=0.0001,
    ),
    "topics-zh": Sample(
        file="topics_zh.csv",
        task="text-classification",
        language="zh",
        description="526 Chinese utterances by their topic (ChatterBot corpus, BSD-3-Clause).",
        epochs=6,
        learning_rate=0.0002,
    ),
    "movie-reviews-prompt": Sample(
        file="movie_reviews.csv",
        task="prompt-classification",
        language="en",
        description="The same sentences of film reviews, for a masked language model: a few dozen rows may be enough.",
        epochs=2,
        learning_rate=0.0001,
    ),
    "paper-sentences": Sample(
        file="paper_sentences.csv",
        task="multi-label-classification",
        language="en",
        description="Sentences of abstracts by what they tell of: challenge, approach, outcome (ACLSum, MIT).",
        epochs=4,
        learning_rate=0.0001,
    ),
    "tweet-scores": Sample(
        file="tweet_scores.csv",
        task="text-scoring",
        language="en",
        description="800 tweets with the mean of what 20 people felt, -4 to 4 (Hutto and Gilbert 2014, MIT).",
        epochs=3,
        learning_rate=0.0001,
    ),
    "ner": Sample(
        file="ner.jsonl",
        task="token-classification",
        language="en",
        description="600 commands to a house with places, devices and times (Home Assistant, Apache-2.0).",
        epochs=10,
        learning_rate=0.0003,
    ),
    "ner-zh": Sample(
        file="ner_zh.conll",
        task="token-classification",
        language="zh",
        description="Chinese commands to a house, in CoNLL format (Home Assistant, Apache-2.0).",
        epochs=10,
        learning_rate=0.0003,
    ),
    "relations": Sample(
        file="relations.jsonl",
        task="relation-extraction",
        language="en",
        description="Sentences with two marked entities and their relation, written for this sample.",
        epochs=6,
        learning_rate=0.0002,
    ),
    "relations-zh": Sample(
        file="relations_zh.jsonl",
        task="relation-extraction",
        language="zh",
        description="Chinese sentences with two entities and their relation, written for this sample.",
        epochs=6,
        learning_rate=0.0002,
    ),
    "qa": Sample(
        file="qa.json",
        task="question-answering",
        language="en",
        description="Questions on short texts, some without an answer, in SQuAD format, written for this sample.",
        epochs=8,
        learning_rate=0.0002,
    ),
    "qa-zh": Sample(
        file="qa_zh.jsonl",
        task="question-answering",
        language="zh",
        description="Chinese questions on short texts, written for this sample.",
        epochs=12,
        learning_rate=0.0002,
    ),
    "translation-en-zh": Sample(
        file="translation_en_zh.csv",
        task="translation",
        language="en-zh",
        description="Messages of Django in English and Chinese (Django, BSD-3-Clause).",
        epochs=12,
        learning_rate=0.0003,
    ),
    "summarization": Sample(
        file="summarization.jsonl",
        task="summarization",
        language="en",
        description="Abstract, introduction and conclusion of papers, and what they achieved (ACLSum, MIT).",
        epochs=10,
        learning_rate=0.0003,
    ),
    "summarization-zh": Sample(
        file="summarization_zh.jsonl",
        task="summarization",
        language="zh",
        description="Short Chinese notices and their headlines, written for this sample.",
        epochs=20,
        learning_rate=0.0003,
    ),
    "dialogue": Sample(
        file="dialogue.jsonl",
        task="dialogue",
        language="en",
        description="60 conversations between two people (Chit-Chat, Brigham Young University, MIT).",
        epochs=1,
        learning_rate=5e-05,
    ),
    "dialogue-zh": Sample(
        file="dialogue_zh.jsonl",
        task="dialogue",
        language="zh",
        description="Chinese small talk (ChatterBot corpus, BSD-3-Clause).",
        epochs=2,
        learning_rate=0.0001,
    ),
    "novel": Sample(
        file="text_en.txt",
        task="masked-language-modelling",
        language="en",
        description="The first chapters of Northanger Abbey by Jane Austen (public domain).",
        epochs=20,
        learning_rate=0.0005,
    ),
    "poems-zh": Sample(
        file="text_zh.txt",
        task="masked-language-modelling",
        language="zh",
        description="Chinese poems of the Tang and Song (public domain).",
        epochs=20,
        learning_rate=0.0005,
    ),
    "novel-causal": Sample(
        file="text_en.txt",
        task="causal-language-modelling",
        language="en",
        description="The same chapters of Northanger Abbey, to write on.",
        epochs=1,
        learning_rate=0.0001,
    ),
    "poems-causal-zh": Sample(
        file="text_zh.txt",
        task="causal-language-modelling",
        language="zh",
        description="The same Chinese poems, to write on.",
        epochs=2,
        learning_rate=0.0001,
    ),
}
