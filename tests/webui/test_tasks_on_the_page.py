"""Every task in a real browser: the forms of the Predict tab, on finished runs of tiny random models, and samples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from backend.data.prepared import Split
from backend.interfaces import Prediction, Row
from backend.rundir import RunDir
from backend.tasks import TASKS
from webui.predicting import predictor

expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def answering_server(start_server: Any, answering: Path) -> Iterator[Any]:
    with start_server(answering) as running:
        yield running


@pytest.fixture(scope="module")
def questions(answering: Path) -> dict[str, tuple[RunDir, Row]]:
    """Return the run of every task, and a row to ask it."""
    return {run.job.name: (run, question(run)) for run in RunDir.all(answering)}


def question(run: RunDir) -> Row:
    """Return what a person would ask about a validation row."""
    task = TASKS[run.job.task.name]
    (row,) = Split.open(run.data, "validation").rows([0])
    if task.view == "chat":
        return {"messages": [{"role": "user", "content": "What is your name?"}]}
    if task.view == "fill":
        return {"text": f"A good [MASK] is {row['text'][:40]}"}
    asked = {column.name: row[column.name] for column in predictor(run.path).inputs}
    return {**asked, "text": asked["text"][:40]} if task.view == "continue" else asked


def ask(page: Page, run: RunDir, row: Row) -> None:
    """Choose the model and type the row, as a person does."""
    name = run.job.task.name
    expect(page.locator("#source input")).not_to_have_value("")  # the page has chosen the newest one
    page.locator("#source input").click()
    page.get_by_role("option", name=f"{run.id} · torch").click()
    expect(page.locator(f"#form-{name}")).to_be_visible()
    if "messages" in row:
        page.locator(f"#{name}-said textarea").fill(row["messages"][-1]["content"])
    for column, text in row.items():
        if column != "messages":
            page.locator(f"#{name}-{column} textarea").fill(text)
    page.locator(f"#predict-{name}").click()


def words(answer: Prediction) -> list[str]:
    """Return what a page must show of an answer."""
    if "entities" in answer:
        return [entity["label"] for entity in answer["entities"]] or ["Nothing was found"]
    if "answer" in answer:
        return [answer["answer"] or "no answer", *(one["answer"] for one in answer["alternatives"])]
    if "masks" in answer:
        return [answer["text"], *(f"{mask[0]['score']:.1%}" for mask in answer["masks"])]
    if "scores" in answer:
        chosen = answer.get("labels") or [answer.get("label", "None of the labels")]
        entities = [answer[role]["text"] for role in ("head", "tail") if role in answer]
        return [*chosen, *answer["scores"], *entities]
    return [f"{answer['score']:.4g}"] if "score" in answer else [answer["text"]]


def squeezed(text: str) -> str:
    """Return a text as it can be compared: a browser shows white space and odd bytes in its own way."""
    return re.sub(r"[^\w%.]+", "", text)


def shown(page: Page, task_name: str) -> str:
    """Return the text that the form shows for an answer."""
    box = page.locator(f"#answer-{task_name} textarea")
    return box.input_value() if box.count() else page.locator(f"#answer-{task_name}").inner_text()


def test_the_form_of_every_task_shows_the_answer_of_its_model(
    answering_server: Any, page: Page, questions: dict[str, tuple[RunDir, Row]]
) -> None:
    page.goto(f"{answering_server.url}?tab=predict")
    assert questions.keys() == TASKS.keys()
    for name, (run, row) in questions.items():
        (answer,) = predictor(run.path).predict([row])
        ask(page, run, row)
        expected = {part for part in map(squeezed, words(answer)) if part}
        assert expected, (name, answer)
        for _ in range(300):
            found = squeezed(shown(page, name))
            if all(part in found for part in expected):
                break
            page.wait_for_timeout(100)
        assert all(part in found for part in expected), (name, found, expected)
        expect(page.locator(f"#form-{name} .tw-problem")).to_have_count(0)
    assert "Traceback" not in answering_server.log()


def test_an_entity_is_marked_by_selecting_it_and_a_word_is_left_out_by_a_button(
    answering_server: Any, page: Page, questions: dict[str, tuple[RunDir, Row]]
) -> None:
    page.goto(f"{answering_server.url}?tab=predict")
    run, _ = questions["relation-extraction"]
    ask(page, run, {"text": "Ada Lovelace was born in London."})
    expect(page.locator("#form-relation-extraction .tw-problem")).to_contain_text("<e1>")
    box = page.locator("#relation-extraction-text textarea")
    for name, start, end in (("e1", 0, 3), ("e2", 34, 40), ("e1", 4, 21)):
        box.evaluate(f"box => box.setSelectionRange({start}, {end})")
        page.locator(f"#mark-{name}").click()
        page.wait_for_timeout(300)
    expect(box).to_have_value("<e1>Ada Lovelace</e1> was born in <e2>London</e2>.")
    page.locator("#predict-relation-extraction").click()
    expect(page.locator("#answer-relation-extraction mark")).to_have_count(2)
    expect(page.locator("#form-relation-extraction .tw-problem")).to_have_count(0)

    run, _ = questions["masked-language-modelling"]
    ask(page, run, {"text": "A good film."})
    box = page.locator("#masked-language-modelling-text textarea")
    box.evaluate("box => box.setSelectionRange(2, 6)")
    page.locator("#mask").click()
    expect(box).to_have_value("A [MASK] film.")


def test_a_conversation_goes_on_and_is_begun_anew(
    answering_server: Any, page: Page, questions: dict[str, tuple[RunDir, Row]]
) -> None:
    page.goto(f"{answering_server.url}?tab=predict")
    run, row = questions["dialogue"]
    turns = page.locator("#answer-dialogue [data-testid=user], #answer-dialogue [data-testid=bot]")
    ask(page, run, row)
    expect(turns).to_have_count(2)
    page.locator("#stop-dialogue").click()
    page.locator("#dialogue-said textarea").fill("And who am I?")
    page.locator("#dialogue-said textarea").press("Enter")
    expect(turns).to_have_count(4)
    page.locator("#clear-dialogue").click()
    expect(turns).to_have_count(0)


def test_a_file_of_conversations_is_answered(
    answering_server: Any, page: Page, questions: dict[str, tuple[RunDir, Row]], tmp_path: Path
) -> None:
    page.goto(f"{answering_server.url}?tab=predict")
    run, row = questions["dialogue"]
    ask(page, run, row)
    file = tmp_path / "asked.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "Hello"}]}\n', encoding="utf-8")
    page.locator("input[type=file]").last.set_input_files(file)
    page.locator("#predict-file").click()
    with page.expect_download() as answered:
        page.locator("#predictions a").first.click()
    text = Path(answered.value.path()).read_text(encoding="utf-8")
    assert re.match(r'\{"messages": \[\{"role": "user", .*"role": "assistant", "content": ".*\n$', text)


def test_a_sample_sets_the_data_and_the_task_and_shows_what_was_read(answering_server: Any, page: Page) -> None:
    page.goto(answering_server.url)
    expect(page.locator("#preview")).to_contain_text("First rows")
    page.locator("#sample input").click()
    page.get_by_role("option", name=": dialogue-zh").click()
    expect(page.locator("#preview")).to_contain_text("OpenAI messages")
    expect(page.locator("#preview")).to_contain_text("assistant:")
    expect(page.locator("#wrong")).to_contain_text("needs a model that writes (a decoder)")
    page.locator("#sample input").click()
    page.get_by_role("option", name=": ner-zh").click()
    expect(page.locator("#preview")).to_contain_text("tokens and tags")
    expect(page.locator("#command")).to_contain_text("token-classification")
    expect(page.locator("#wrong .tw-problem")).to_have_count(0)
