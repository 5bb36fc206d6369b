"""The built-in samples: small, real, licensed; `sample:NAME` in a job means the same file on every machine."""

from __future__ import annotations

from pathlib import Path

from backend.interfaces import Options

HERE = Path(__file__).parent
PREFIX = "sample:"


class Sample(Options):
    """A built-in data set: its file beside this one, the task it is for, and where it comes from."""

    file: str
    task: str
    description: str


SAMPLES: dict[str, Sample] = {
    "movie-reviews": Sample(
        file="movie_reviews.csv",
        task="text-classification",
        description="4,800 sentences of film reviews, positive or negative (Hutto and Gilbert 2014, MIT).",
    ),
}
