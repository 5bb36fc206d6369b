from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.errors import UserError
from backend.tasks import TASKS
from webui.predicting import command_row, conversation_row, predictor, typed_row


def model(task_name: str, *columns: str) -> Any:
    return SimpleNamespace(inputs=TASKS[task_name].inputs(columns))


def test_a_row_that_was_typed_has_what_the_model_reads() -> None:
    typed = {"text": "one", "text_pair": "left from before"}
    assert typed_row(model("text-classification", "text", "label"), typed) == {"text": "one"}
    assert typed_row(model("text-classification", "text", "text_pair", "label"), typed) == typed


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(UserError, match="text: is empty; type a text"):
        typed_row(model("text-classification", "text"), {"text": "  "})
    with pytest.raises(UserError, match="context: is empty; type a text"):
        typed_row(model("question-answering"), {"question": "who", "context": None})


def test_a_text_on_the_command_line_is_what_the_user_says() -> None:
    said = [{"role": "user", "content": "hello"}]
    assert command_row(model("dialogue"), ["hello"]) == {"messages": said}
    assert conversation_row(model("dialogue"), said) == {"messages": said}
    assert command_row(model("question-answering"), ["who", "he"]) == {"question": "who", "context": "he"}


def test_what_is_neither_run_nor_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run directory"):
        predictor(tmp_path)
