from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch.nn import functional

from backend.data.batching import pad
from backend.errors import UserError
from backend.interfaces import IGNORED, Context, Features, Layout, Row
from backend.tasks.question_answering import QuestionAnswering
from backend.tokenizer import Tokenizer

TASK = QuestionAnswering()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "who", "?", *(f"w{number}" for number in range(100))]
LONG = " ".join(f"w{number}" for number in range(100))


def new_tokenizer(pair: str = "[CLS] $A [SEP] $B:1 [SEP]:1") -> Tokenizer:
    fast = FastTokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "[UNK]"))
    fast.normalizer = normalizers.BertNormalizer()
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return Tokenizer(fast, {"pad_token": "[PAD]", "cls_token": "[CLS]"})


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return new_tokenizer()


def context(tokenizer: Tokenizer, **options: object) -> Context:
    settled = TASK.Options.model_validate({"max_length": 24, "stride": 6, "unanswerable": "yes", **options})
    return Context(settled, (), ("question", "context", "answers"), tokenizer)


def row(text: str, *answers: str, question: str = "who?") -> Row:
    return {
        "question": question,
        "context": text,
        "answers": {"text": list(answers), "answer_start": [text.index(answer) for answer in answers]},
    }


def words_of(tokenizer: Tokenizer, features: Features) -> list[str]:
    return [tokenizer.token(number) for number in features["input_ids"]]


def test_a_window_has_the_question_and_a_part_of_the_context(tokenizer: Tokenizer) -> None:
    ((features,),) = TASK.encode([row("w1 w2, 上海 w3", "w2, 上")], context(tokenizer))

    assert words_of(tokenizer, features)[:6] == ["[CLS]", "who", "?", "[SEP]", "w1", "w2"]
    assert features["starts"] == [0, 0, 0, 0, 0, 3, 5, 7, 8, 10, 0]
    assert features["ends"] == [0, 0, 0, 0, 2, 5, 6, 8, 9, 12, 0]
    assert features["candidates"] == [1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0]
    assert features["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert (features["start_positions"], features["end_positions"]) == ([5], [7])


def test_windows_cover_the_context_and_overlap(tokenizer: Tokenizer) -> None:
    (windows,) = TASK.encode([row(LONG, "w30 w31")], context(tokenizer))

    parts = [words_of(tokenizer, window)[4:-1] for window in windows]
    assert [len(window["input_ids"]) for window in windows[:-1]] == [24] * (len(windows) - 1)
    for window in windows:
        assert {len(window[name]) for name in ("starts", "ends", "candidates")} == {len(window["input_ids"])}
    assert [before[-6:] == after[:6] for before, after in pairwise(parts)] == [True] * 7
    assert [*parts[0], *(word for part in parts[1:] for word in part[6:])] == LONG.split()
    for window, part in zip(windows, parts, strict=True):
        start, end = window["start_positions"][0], window["end_positions"][0]
        found = words_of(tokenizer, window)[start : end + 1]
        assert found == (["w30", "w31"] if {"w30", "w31"} <= set(part) else ["[CLS]"])


def test_a_question_without_an_answer_points_at_the_classification_token(tokenizer: Tokenizer) -> None:
    ((features,),) = TASK.encode([row("w1 w2")], context(tokenizer))

    assert (features["start_positions"], features["end_positions"]) == ([0], [0])


def test_the_classification_token_may_stand_elsewhere() -> None:
    tokenizer = new_tokenizer("$A [SEP] $B:1 [SEP]:1 [CLS]:2")

    ((features,),) = TASK.encode([row("w1 w2")], context(tokenizer))

    assert words_of(tokenizer, features) == ["who", "?", "[SEP]", "w1", "w2", "[SEP]", "[CLS]"]
    assert (features["start_positions"], features["end_positions"]) == ([6], [6])
    assert features["candidates"] == [0, 0, 0, 1, 1, 0, 1]
    outputs = {"start_logits": np.arange(9.0), "end_logits": np.arange(9.0)}
    assert TASK.read(features, outputs, context(tokenizer))["null"] == 12.0


def test_a_row_to_predict_has_no_targets(tokenizer: Tokenizer) -> None:
    ((features,),) = TASK.encode([{"question": "who?", "context": "w1"}], context(tokenizer))

    assert set(features) == {"input_ids", "attention_mask", "token_type_ids", "starts", "ends"}


def test_the_overlap_gives_way_to_a_long_question(tokenizer: Tokenizer) -> None:
    (windows,) = TASK.encode([row(LONG, question="who " * 13)], context(tokenizer, stride=20))

    parts = [words_of(tokenizer, window)[15:-1] for window in windows]
    assert {len(part) for part in parts[:-1]} == {8}
    assert parts[1][:4] == parts[0][-4:]


def test_a_question_that_leaves_no_room_is_refused(tokenizer: Tokenizer) -> None:
    message = r'task.max_length is 24, but the question "who who .*\.\.\." takes 14 tokens and leaves too few'
    with pytest.raises(UserError, match=message):
        TASK.encode([row(LONG, question="who " * 14)], context(tokenizer))


def read(tokenizer: Tokenizer, text: str, peaks: dict[str, float], **options: object) -> dict[str, Any]:
    """Answer with a model that gives these pieces these scores as start and as end, and 0 to all others."""
    asked = context(tokenizer, **options)
    question = {"question": "who?", "context": text}
    (windows,) = TASK.encode([question], asked)
    parts = []
    for window in windows:
        logits = np.array([peaks.get(word, 0.0) for word in words_of(tokenizer, window)] + [99.0] * 3)
        parts.append(TASK.read(window, {"start_logits": logits, "end_logits": logits}, asked))
    return TASK.decode(parts, question, asked)


def test_the_best_span_of_all_windows_is_the_answer(tokenizer: Tokenizer) -> None:
    answer = read(tokenizer, LONG, {"w90": 6.0, "w91": 5.0, "[CLS]": 1.0, "w3": 4.0})

    start = LONG.index("w90")
    assert (answer["answer"], answer["start"], answer["end"]) == ("w90", start, start + 3)
    assert answer["alternatives"][0]["answer"] == "w90 w91"
    assert answer["score"] > 2 * answer["alternatives"][0]["score"]
    assert len(answer["alternatives"]) == 4


def test_an_answer_is_a_slice_of_the_context_in_any_script(tokenizer: Tokenizer) -> None:
    text = "w1 😀 上海 w2"

    answer = read(tokenizer, text, {"w2": 5.0})

    assert answer["answer"] == text[answer["start"] : answer["end"]] == "w2"


def test_scores_are_probabilities_among_the_best_spans_and_no_answer(tokenizer: Tokenizer) -> None:
    answer = read(tokenizer, "w1 w2", {"w1": 1.0, "[CLS]": 0.5})

    sums = np.array([2.0, 1.0, 0.0, 1.0])  # w1, w1 w2, w2, no answer
    chances = np.exp(sums) / np.exp(sums).sum()
    assert answer["score"] == pytest.approx(chances[0])
    assert [one["answer"] for one in answer["alternatives"]] == ["w1 w2", "w2"]
    assert [one["score"] for one in answer["alternatives"]] == pytest.approx(chances[1:3].tolist())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ""),
        ({"null_threshold": 3.0}, "w1"),
        ({"unanswerable": "no"}, "w1"),
    ],
)
def test_no_answer_is_given_where_the_model_believes_in_none(
    tokenizer: Tokenizer, options: dict[str, Any], expected: str
) -> None:
    answer = read(tokenizer, "w1 w2", {"w1": 1.0, "[CLS]": 2.0}, **options)

    assert answer["answer"] == expected
    assert (answer["start"], answer["end"]) == (0, len(expected))


def test_one_window_that_has_an_answer_outweighs_those_without(tokenizer: Tokenizer) -> None:
    parts = [{"null": 9.0, "spans": [[0.0, 0, 2]]}, {"null": 1.0, "spans": [[2.0, 3, 5]]}]

    answer = TASK.decode(parts, {"context": "w1 w2"}, context(tokenizer))

    assert answer["answer"] == "w2"


def test_an_answer_is_not_longer_than_allowed(tokenizer: Tokenizer) -> None:
    peaks = {"w0": 5.0, "w1": 4.0, "w2": 5.0}

    assert read(tokenizer, "w0 w1 w2 w3", {**peaks, "w1": 6.0}, max_answer_length=1)["answer"] == "w1"
    assert len(read(tokenizer, "w0 w1 w2 w3", peaks, max_answer_length=2)["answer"].split()) <= 2


def test_a_context_without_a_piece_has_no_answer(tokenizer: Tokenizer) -> None:
    answer = read(tokenizer, "\u200b", {}, unanswerable="no")

    assert answer == {"answer": "", "start": 0, "end": 0, "score": 1.0, "alternatives": []}


def batch_of(windows: list[Features]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    arrays = pad([{name: one[name] for name in ("input_ids", *TASK.targets)} for one in windows], 0, TASK.targets)
    targets = {name: torch.from_numpy(arrays[name]) for name in TASK.targets}
    generator = torch.Generator().manual_seed(0)
    shape = arrays["input_ids"].shape
    return {name: torch.randn(shape, generator=generator, requires_grad=True) for name in TASK.outputs}, targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_torch_among_the_candidates(tokenizer: Tokenizer, smoothing: float) -> None:
    encoded = TASK.encode([row("w1 w2 w3 w4", "w2 w3"), row("w5", question="who? who?")], context(tokenizer))
    windows = [window for found in encoded for window in found]
    outputs, targets = batch_of(windows)

    expected = 0.0
    for number, window in enumerate(windows):
        places = [place for place, may in enumerate(window["candidates"]) if may]
        for side in ("start", "end"):
            logits = outputs[f"{side}_logits"][number, places]
            target = torch.tensor(places.index(window[f"{side}_positions"][0]))
            expected += functional.cross_entropy(logits, target, label_smoothing=smoothing).item()

    loss = TASK.loss(outputs, targets, smoothing)

    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert [TASK.target_count(window) for window in windows] == [2, 2]
    loss.backward()
    gradient = outputs["start_logits"].grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert torch.count_nonzero(gradient[targets["candidates"] != 1]) == 0


def test_a_window_that_does_not_count_has_no_loss(tokenizer: Tokenizer) -> None:
    ((window,),) = TASK.encode([row("w1 w2 w3 w4", "w2 w3")], context(tokenizer))
    blank = {**window, **{name: [IGNORED] * len(window[name]) for name in TASK.targets}}
    outputs, targets = batch_of([blank])

    loss = TASK.loss(outputs, targets, 0.1)
    loss.backward()

    assert loss.item() == 0.0
    assert outputs["end_logits"].grad is not None
    assert torch.count_nonzero(outputs["end_logits"].grad) == 0


def test_questions_without_an_answer_are_noticed() -> None:
    with_answer, without = row("w1", "w1"), row("w1")

    assert TASK.settle([with_answer, without], TASK.Options()).unanswerable == "yes"
    assert TASK.settle([with_answer], TASK.Options()).unanswerable == "no"
    assert TASK.settle([without], TASK.Options(unanswerable="no")).unanswerable == "no"
    assert [TASK.strata(with_answer), TASK.strata(without)] == ["with", "without"]


def test_faults_of_a_row() -> None:
    options = TASK.Options(unanswerable="no")

    assert list(TASK.faults(row("w1", "w1"), (), options)) == []
    assert list(TASK.faults({**row("w1", "w1"), "question": " "}, (), options)) == [
        ("question", "is empty; give it a text or remove the row")
    ]
    assert list(TASK.faults(row("w1"), (), options)) == [
        ("answers", 'has no answer, but task.unanswerable is "no"; give an answer or say "yes"')
    ]
    wrong = {**row("w1 w2"), "answers": {"text": ["w2"], "answer_start": [0]}}
    assert list(TASK.faults(wrong, (), options)) == [("answers", 'the context has "w1" at 0, not "w2"; it begins at 3')]


@pytest.mark.parametrize(
    "values",
    [
        {"answers": {"text": ["w2"], "answer_start": [3]}},
        {"answers": [{"text": "w2", "start": 3}]},
        {"answer": "w2", "answer_start": "3"},
    ],
)
def test_every_layout_gives_the_same_row(values: dict[str, Any]) -> None:
    given = {"question": "who?", "context": "w1 w2", **values}
    layout = next(layout for layout in TASK.layouts if {c.name for c in layout.columns} <= given.keys())

    assert layout.convert(given) == row("w1 w2", "w2")


@pytest.mark.parametrize("layout", TASK.layouts, ids=lambda layout: layout.title)
def test_a_file_to_predict_has_no_answers_in_any_layout(layout: Layout) -> None:
    values = {"question": "who?", "context": "w1"}

    assert layout.convert(values) == {**values, "answers": None}


def test_the_report_is_that_of_squad(tokenizer: Tokenizer) -> None:
    rows = [row("w1 w2", "w1 w2"), row("w1")]

    report = TASK.score([{"answer": "w1"}, {"answer": ""}], rows, context(tokenizer))

    assert report.metrics["f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert report.metrics["no_answer_accuracy"] == 1.0
