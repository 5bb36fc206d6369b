"""One label out of several for a text or a pair of texts."""

from __future__ import annotations

from typing import Literal

from backend.text.one_label import OneLabelTask


class TextClassification(OneLabelTask):
    """One label out of several for a text or a pair of texts."""

    title = "Text classification"

    class Options(OneLabelTask.Options):
        """Settings of text classification."""

        name: Literal["text-classification"] = "text-classification"
