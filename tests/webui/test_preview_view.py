from __future__ import annotations

from typing import Any

from backend.data.preview import Preview
from webui.preview_view import LONGEST, preview_html


def found(*rows: dict[str, Any], **changed: Any) -> Preview:
    given: dict[str, Any] = {
        "rows": rows,
        "columns": tuple(rows[0]),
        "labels": (),
        "form": "JSONL: some form",
        "label_counts": {},
        "size": len(rows),
        "splits": {"train": len(rows)},
        "warnings": (),
    }
    return Preview(**{**given, **changed})


def test_the_preview_says_what_the_file_was_taken_for() -> None:
    assert "Read as JSONL: some form." in preview_html(found({"text": "a"}))


def test_what_the_task_counts_are_labels_only_if_it_has_any() -> None:
    counts = {"with": 3, "without": 1}
    assert "<h4>Kinds of rows</h4>" in preview_html(found({"text": "a"}, label_counts=counts))
    assert "<h4>Labels</h4>" in preview_html(found({"text": "a"}, label_counts=counts, labels=("with", "without")))
    assert "<h4>Kinds" not in preview_html(found({"text": "a"}, label_counts={"all": 4}))


def test_columns_that_no_row_has_are_left_out() -> None:
    html = preview_html(found({"text": "a", "text_pair": None}, {"text": "b", "text_pair": ""}))
    assert "text_pair" not in html


def test_a_conversation_is_shown_turn_by_turn() -> None:
    turns = [{"role": role, "content": f"words {n}"} for n, role in enumerate(["user", "assistant"] * 4)]
    html = preview_html(found({"messages": turns}))
    assert "<b>user:</b> words 0</div><div><b>assistant:</b> words 1" in html
    assert "words 6" not in html


def test_entities_are_shown_in_their_text() -> None:
    entities = [{"start": 0, "end": 3, "label": "PER"}]
    html = preview_html(found({"text": "Ada ran", "entities": entities}))
    assert "Ada<i>PER</i></mark> ran" in html
    assert "PER 0-3" in html


def test_other_json_is_short_and_long_texts_are_cut() -> None:
    html = preview_html(found({"answers": {"text": ["爱"]}, "text": "x" * 1000}))
    assert "&#123;&quot;text&quot;: [&quot;爱&quot;]&#125;" in html
    assert f"{'x' * LONGEST}…<" in html


def test_words_and_the_places_of_words_are_shown_as_words() -> None:
    row = {"text": "开灯 now", "tokens": [[0, 1], [1, 2], [3, 6]], "tags": ["O", "B-device", "O"]}

    shown = preview_html(found(row))

    assert "<td>开 灯 now</td>" in shown
    assert "<td>O B-device O</td>" in shown
