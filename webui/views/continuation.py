"""A text that goes on from the one that was typed."""

from __future__ import annotations

from webui.views.text import TextView


class ContinuationView(TextView):
    """The continuation of a text, while it is written."""

    streams = True
