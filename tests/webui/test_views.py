from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import gradio as gr
import pytest

from backend.errors import UserError
from backend.interfaces import Generation, Row
from backend.tasks import TASKS
from webui.predicting import Trained
from webui.views import VIEWS, chat, view
from webui.views.highlight import Span, colors_of, highlighted
from webui.views.view import View, paced

SCORES = {"good": 0.75, "bad": 0.25}


def drawn(task_name: str) -> Any:
    """Return the view of a task, drawn."""
    task = TASKS[task_name]

    async def draw() -> Any:  # where no event loop runs, gradio makes one and never closes it
        with gr.Blocks(analytics_enabled=False):
            found = VIEWS[task.view](task_name, task, gr.Dropdown([]))
            found.build()
        return found

    with ThreadPoolExecutor(1) as other:  # a browser's event loop may be running in this thread
        return other.submit(asyncio.run, draw()).result()


def of(view_name: str) -> Any:
    """Return a view that need not be drawn to show an answer."""
    task: Any = None
    return VIEWS[view_name]("some-task", task, task)


def trained(task_name: str, *columns: str, **options: Any) -> Trained:
    return Trained(task_name, TASKS[task_name].Options.model_validate(options), columns)


def test_every_task_has_its_view() -> None:
    assert {task.view for task in TASKS.values()} <= VIEWS.keys()


def test_a_label_is_shown_large_with_all_probabilities_and_its_own_marked() -> None:
    html = of("scores").show({"label": "good", "scores": SCORES}, {})
    assert '<p class="tw-headline">good</p>' in html
    assert html.count("tw-chosen") == 1
    assert html.index("75.0%") < html.index("25.0%")


def test_all_labels_that_apply_are_marked() -> None:
    html = of("scores").show({"labels": ["good", "bad"], "scores": SCORES}, {})
    assert '<p class="tw-headline">good, bad</p>' in html
    assert html.count("tw-chosen") == 2


def test_that_no_label_applies_is_said() -> None:
    assert "None of the labels" in of("scores").show({"labels": [], "scores": SCORES}, {})


def test_a_score_is_a_number() -> None:
    assert of("scores").show({"score": 3.14159}, {}) == '<p class="tw-headline">3.142</p>'


def test_of_many_labels_the_first_are_shown_and_the_others_counted() -> None:
    html = of("scores").show({"label": "l0", "scores": {f"l{n}": 1 / (n + 1) for n in range(30)}}, {})
    assert "and 6 more" in html


def test_spans_stand_in_the_text_that_was_typed() -> None:
    row = {"text": "😀da met 爱丽丝 <b>"}
    found = [{"start": 8, "end": 11, "label": "PER", "text": "爱丽丝", "score": 0.5}]
    html = of("spans").show({"entities": found}, row)
    assert ">😀da met <mark" in html
    assert ">爱丽丝<i>PER</i></mark> &lt;b&gt;" in html
    assert "8-11" in html


def test_a_text_without_spans_says_so() -> None:
    assert "Nothing was found" in of("spans").show({"entities": []}, {"text": "nobody"})


def test_a_relation_shows_both_entities_and_their_types() -> None:
    head = {"start": 0, "end": 3, "text": "Ada", "type": "person"}
    tail = {"start": 8, "end": 14, "text": "London", "type": ""}
    answer = {"label": "good", "scores": SCORES, "head": head, "tail": tail, "text": "Ada saw London"}
    html = of("relation").show(answer, {"text": "<e1:person>Ada</e1> saw <e2>London</e2>"})
    assert "Ada<i>head (person)</i>" in html
    assert "London<i>tail</i>" in html
    assert '<p class="tw-headline">good</p>' in html


def test_an_answer_is_marked_in_its_context() -> None:
    other = {"answer": "Rome", "start": 3, "end": 7, "score": 0.1}
    answer = {"answer": "Paris", "start": 8, "end": 13, "score": 0.9, "alternatives": [other]}
    html = of("answer").show(answer, {"question": "Where?", "context": "In Rome Paris"})
    assert '<p class="tw-headline">Paris</p>' in html
    assert ">Paris</mark>" in html
    assert html.index("0.9000") < html.index("0.1000")


def test_no_answer_marks_nothing() -> None:
    answer = {"answer": "", "start": 0, "end": 0, "score": 0.9, "alternatives": []}
    html = of("answer").show(answer, {"question": "Where?", "context": "In Rome"})
    assert "holds no answer" in html
    assert "<mark" not in html


def test_a_filled_text_shows_what_could_stand_at_each_mask() -> None:
    masks = [[{"token": "cat", "score": 0.5}, {"token": "dog", "score": 0.25}], [{"token": "mat", "score": 0.75}]]
    html = of("fill").show({"text": "a cat on a mat", "masks": masks}, {})
    assert '<p class="tw-headline">a cat on a mat</p>' in html
    assert html.index("Mask 1") < html.index("dog") < html.index("Mask 2") < html.index("75.0%")


def test_two_labels_of_a_text_never_share_a_color_and_a_label_keeps_its_own() -> None:
    labels = [f"label {number}" for number in range(8)]
    assert sorted(colors_of(labels).values()) == list(range(8))
    assert colors_of(["LOC"]) == colors_of(["LOC", "LOC"])


def test_of_two_spans_that_overlap_the_first_is_shown() -> None:
    html = highlighted("abcdef", [Span(2, 5, "B"), Span(0, 3, "A")])
    assert "abc<i>A</i>" in html
    assert "<i>B</i>" not in html
    assert html.endswith("</mark>def</div>")


def test_a_form_shows_a_second_text_only_for_a_model_that_reads_one() -> None:
    form = drawn("text-classification")
    place = 1 + list(form.optional).index("text_pair")
    for columns, visible in ((("text", "label"), False), (("text", "text_pair", "label"), True)):
        updates = form.updates(trained("text-classification", *columns))
        assert updates[0].visible
        assert updates[place]["visible"] is visible
    assert not form.updates(trained("text-scoring", "text", "score"))[0].visible


def test_a_model_brings_its_own_settings_of_writing() -> None:
    name = "translation"
    form = drawn(name)
    usual = Generation(max_new_tokens=7, num_beams=3)
    updates = form.updates(trained(name, "source", "target", generation=usual))
    values = dict(
        zip([entry.key for entry in form.settings.entries], updates[-len(form.settings.entries) :], strict=True)
    )
    assert values["max_new_tokens"]["value"] == 7
    assert form.generation([value["value"] for value in values.values()]) == usual


def test_a_wrong_setting_of_writing_is_named() -> None:
    form = drawn("translation")
    answers = [-1 if entry.key == "temperature" else entry.widget.value for entry in form.settings.entries]
    with pytest.raises(UserError, match="temperature: Input should be greater than 0, not -1"):
        form.generation(answers)


def test_without_a_model_the_form_says_what_to_do() -> None:
    _, wrong = drawn("question-answering").answer(None, "who", "he")
    assert "choose a model first" in wrong


class Echo:
    """Says what the user said, word by word."""

    inputs = TASKS["dialogue"].inputs(())
    asked: ClassVar[list[Row]] = []

    def stream(self, row: Row, settings: Generation | None) -> Iterator[str]:
        self.asked.append(row)
        words = row["messages"][-1]["content"].split()
        yield from (" ".join(words[:count]) for count in range(1, len(words) + 1))


@pytest.fixture
def talking(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the view of conversations, with a model that says the same."""
    monkeypatch.setattr(chat, "predictor_of", lambda _: Echo())
    monkeypatch.setattr(view, "PACE", 0.0)
    monkeypatch.setattr(Echo, "asked", [])
    return drawn("dialogue")


def say(talking: Any, told: list[dict[str, str]], said: str, system: str = "") -> list[tuple[Any, ...]]:
    settings = [entry.widget.value for entry in talking.settings.entries]
    return list(talking.reply("a run", told, said, system, *settings))


def test_a_conversation_goes_on_with_what_was_said(talking: Any) -> None:
    *_, (shown, told, _, _) = say(talking, [], "hello there", "Be kind.")
    assert (
        shown
        == told
        == [
            {"role": "user", "content": "hello there"},
            {"role": "assistant", "content": "hello there"},
        ]
    )
    say(talking, told, "again")
    assert [len(row["messages"]) for row in Echo.asked] == [2, 3]
    assert Echo.asked[0]["messages"][0] == {"role": "system", "content": "Be kind."}


def test_a_question_whose_answer_was_stopped_before_its_begin_is_left_out(talking: Any) -> None:
    say(talking, [{"role": "user", "content": "never answered"}], "hello")
    assert Echo.asked[0]["messages"] == [{"role": "user", "content": "hello"}]


def test_nothing_said_is_refused_and_the_conversation_stays(talking: Any) -> None:
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ((shown, told, said, wrong),) = say(talking, before, "  ")
    assert shown == told == before
    assert said == "  "
    assert "say something first" in wrong


def test_a_fast_writer_is_shown_now_and_then_and_at_its_end() -> None:
    texts = [str(number) for number in range(1000)]
    shown = list(paced(texts))
    assert shown[0] == "0"
    assert shown[-1] == "999"
    assert len(shown) < 100


def test_the_base_of_the_views_is_no_view_itself() -> None:
    assert View not in VIEWS.values()
