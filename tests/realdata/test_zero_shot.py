"""What a model that writes knows of labels that it was never trained for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backend.text.zero_shot import ZeroShot
from backend.zero_shot import zero_shot

LABELS = ("sports", "politics", "cooking")
TEXTS = {
    "The match ended in a draw after a late goal.": "sports",
    "Fry the onions gently in butter until they are soft.": "cooking",
    "The senate voted against the bill of the government.": "politics",
    "She won the race by half a second and took the gold medal.": "sports",
    "The president will meet the ministers before the election.": "politics",
    "Add a pinch of salt and let the soup simmer for an hour.": "cooking",
}


@pytest.mark.slow
@pytest.mark.parametrize(("calibrate", "right"), [(False, 6), (True, 5)])  # by chance it would be 2
def test_smollm2_tells_what_texts_are_about(real_data: Callable[[str], Path], calibrate: bool, right: int) -> None:  # noqa: FBT001 - a case
    settings = ZeroShot(model=str(real_data("smollm2")), labels=LABELS, by="likelihood", calibrate=calibrate)

    answers = zero_shot(settings).predict([{"text": text} for text in TEXTS])

    said = [answer["label"] for answer in answers]
    assert sum(label == truth for label, truth in zip(said, TEXTS.values(), strict=True)) >= right
