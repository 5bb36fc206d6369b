from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backend.interfaces import GENERATED, IGNORED, Context, Features, Generation
from backend.tasks.dialogue import Dialogue
from backend.tokenizer import Tokenizer

TASK = Dialogue()
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
IM_END = 260


def talk(*contents: str, system: str = "") -> list[dict[str, str]]:
    turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(contents)]
    return [*([{"role": "system", "content": system}] if system else []), *turns]


@pytest.fixture
def tokenizer(byte_tokenizer: Callable[..., Tokenizer]) -> Tokenizer:
    return byte_tokenizer(chat_template=CHATML)


def context(tokenizer: Tokenizer, **options: Any) -> Context:
    return Context(Dialogue.Options(**options), (), ("messages",), tokenizer)


def encoded(messages: list[dict[str, str]], given: Context) -> Features:
    ((window,),) = TASK.encode([{"messages": messages}], given)
    return window


def learned(window: Features, tokenizer: Tokenizer) -> list[str]:
    """Return the runs of tokens that count, as text with special tokens."""
    runs: list[list[int]] = [[]]
    for label in window["labels"]:
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(label)
    return [tokenizer._fast.decode(run, skip_special_tokens=False) for run in runs if run]


ROWS = {
    "OpenAI messages": {"messages": talk("你好", "你好。", "Bye", "See you", system="Be brief.")},
    "ShareGPT conversations": {
        "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "再见 now"}]
    },
    "Alpaca instructions": {"instruction": "Add", "input": "1 2", "output": "3"},
    "prompt and response": {"prompt": "Hello", "response": "Hi"},
    "prompt and completion": {"prompt": "Hello", "completion": " Hi"},
    "question and answer": {"question": "Hello", "answer": "Hi\n"},
}


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("OpenAI messages", ["你好。<|im_end|>", "See you<|im_end|>"]),
        ("ShareGPT conversations", ["再见 now<|im_end|>"]),
        ("Alpaca instructions", ["3<|im_end|>"]),
        ("prompt and response", ["Hi<|im_end|>"]),
        ("prompt and completion", [" Hi<|im_end|>"]),
        ("question and answer", ["Hi\n<|im_end|>"]),
    ],
)
def test_what_counts_is_what_the_assistant_says(tokenizer: Tokenizer, title: str, expected: list[str]) -> None:
    (layout,) = (layout for layout in TASK.layouts if layout.title == title)
    row = layout.convert(ROWS[title])

    ((window,),) = TASK.encode([row], context(tokenizer))

    assert list(TASK.faults(row, (), Dialogue.Options())) == []
    assert learned(window, tokenizer) == expected
    assert TASK.target_count(window) == sum(len(tokenizer._fast.encode(text).ids) for text in expected)
    pairs = zip(window["input_ids"], window["labels"], strict=True)
    assert all(label in (IGNORED, token) for token, label in pairs)


def test_every_form_of_the_sample_rows_has_a_layout() -> None:
    assert set(ROWS) == {layout.title for layout in TASK.layouts}


def test_a_row_to_predict_is_encoded_up_to_where_the_answer_begins(tokenizer: Tokenizer) -> None:
    window = encoded(talk("Hello", "Hi", "Bye"), context(tokenizer))

    expected = "user\nHello\nassistant\nHi\nuser\nBye\nassistant\n"
    assert set(window) == {"input_ids", "attention_mask"}
    assert tokenizer.text(window["input_ids"]) == expected
    assert TASK.prompt(window) == window


def test_a_long_conversation_ends_after_the_last_answer_that_fits(tokenizer: Tokenizer) -> None:
    messages = talk("a" * 10, "b" * 10, "c" * 10, "d" * 40)

    window = encoded(messages, context(tokenizer, max_length=80))

    assert learned(window, tokenizer) == ["bbbbbbbbbb<|im_end|>"]
    assert window["input_ids"][-1] == IM_END
    assert len(window["attention_mask"]) == len(window["input_ids"]) <= 80


def test_of_an_answer_that_is_too_long_the_beginning_is_learned(tokenizer: Tokenizer) -> None:
    window = encoded(talk("q" * 10, "a" * 90), context(tokenizer, max_length=64))

    assert learned(window, tokenizer) == ["a" * (64 - len("<|user\nqqqqqqqqqq|\n<assistant\n") + 1)]
    assert len(window["input_ids"]) == 64


def test_of_a_question_that_is_too_long_the_end_is_kept_before_its_answer(tokenizer: Tokenizer) -> None:
    window = encoded(talk("q" * 90, "answer"), context(tokenizer, max_length=32))

    assert learned(window, tokenizer) == ["answer<|im_end|>"]
    assert tokenizer.text(window["input_ids"]) == "qqqqqqqqqqqq\nassistant\nanswer"
    assert len(window["input_ids"]) == 32


def test_the_oldest_turns_are_left_out_of_a_long_row_to_predict(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, max_length=100, generation=Generation(max_new_tokens=30))

    window = encoded(talk("a" * 20, "b" * 20, "c" * 10, "d", "e", system="S"), given)

    assert tokenizer.text(window["input_ids"]) == "system\nS\nuser\ncccccccccc\nassistant\nd\nuser\ne\nassistant\n"


def test_a_question_that_is_too_long_by_itself_loses_its_beginning(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, max_length=40, generation=Generation(max_new_tokens=300))

    window = encoded(talk("abcdefghij" * 10), given)

    assert len(window["input_ids"]) == 20
    assert tokenizer.text(window["input_ids"]) == "defghij\nassistant\n"


def test_a_conversation_ends_with_a_token_of_its_own_where_the_template_has_none(
    byte_tokenizer: Callable[..., Tokenizer],
) -> None:
    template = "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}"
    tokenizer = byte_tokenizer(chat_template=template + "{% if add_generation_prompt %}assistant:{% endif %}")

    window = encoded(talk("Hello", "Hi"), context(tokenizer))

    assert learned(window, tokenizer) == ["Hi\n</s>"]


def test_packing_joins_conversations_and_can_be_left_out(tokenizer: Tokenizer) -> None:
    rows = [{"messages": talk("Hello", "Hi")}, {"messages": talk("你好", "好")}]
    given = context(tokenizer, rouge=True)
    windows = [window for windows in TASK.encode(rows, given) for window in windows]

    (example,) = TASK.pack(windows, given)

    assert set(example) == {"input_ids", "position_ids", "labels"}
    assert TASK.target_count(example) == sum(TASK.target_count(window) for window in windows)
    assert TASK.pack(windows, context(tokenizer, packing=False)) == windows


def test_what_is_read_is_small_and_merges_to_perplexity(tokenizer: Tokenizer) -> None:
    given = context(tokenizer)
    row = {"messages": talk("Hello", "Hi")}
    window = encoded(row["messages"], given)
    logits = np.zeros((len(window["input_ids"]) + 5, 262), dtype=np.float32)

    prediction = TASK.decode([TASK.read(window, {"logits": logits}, given)], row, given)

    assert prediction == {"nll": pytest.approx(3 * np.log(262)), "tokens": 3, "hits": 0, "answers": 1}
    report = TASK.score([prediction], [row], given)
    assert report.metrics == {
        "perplexity": pytest.approx(262),
        "loss": pytest.approx(np.log(262)),
        "token_accuracy": 0.0,
    }


def test_a_written_answer_is_text(tokenizer: Tokenizer) -> None:
    given = context(tokenizer)
    row = {"messages": talk("Hello")}
    written = np.array(tokenizer._fast.encode(" 你 好.\n").ids)

    part = TASK.read(encoded(row["messages"], given), {GENERATED: written}, given)

    assert TASK.decode([part], row, given) == {"text": "你好."}


def test_rouge_compares_the_last_answer_that_fits(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, rouge=True, max_length=80, generation=Generation(max_new_tokens=30))
    row = {"messages": talk("first question", "the cat sat", "x" * 50, "y")}
    window = encoded(row["messages"], given)
    assert tokenizer.text(TASK.prompt(window)["input_ids"]) == "user\nfirst question\nassistant\n"

    outputs = {"logits": np.zeros((80, 262)), GENERATED: np.array(tokenizer._fast.encode("the cat ran").ids)}
    prediction = TASK.decode([TASK.read(window, outputs, given)], row, given)
    report = TASK.score([prediction], [row], given)

    assert report.metrics["rouge1"] == pytest.approx(2 / 3)
    assert report.metrics["perplexity"] == pytest.approx(262)
    assert report.tables[0].rows == (("first question", "the cat ran", "the cat sat"),)


def test_evaluations_write_only_where_rouge_is_wanted() -> None:
    settings = Generation(max_new_tokens=100, do_sample=True)

    assert TASK.generation(Dialogue.Options(generation=settings), evaluating=True) is None
    assert TASK.generation(Dialogue.Options(generation=settings), evaluating=False) == settings
    for_rouge = TASK.generation(Dialogue.Options(generation=settings, rouge=True, max_length=64), evaluating=True)
    assert for_rouge == Generation(max_new_tokens=32, do_sample=False)


def test_an_answer_ends_with_the_turn(tokenizer: Tokenizer) -> None:
    assert TASK.stop_ids(context(tokenizer)) == (IM_END, 258)


@pytest.mark.parametrize(
    ("messages", "to_learn", "to_predict"),
    [
        (talk("a", "b"), [], [("ends with a turn of the assistant, not of the user; that is what is to be answered: "
         "add what the user says, or remove the last turn")]),
        (talk("a"), [("ends with a turn of the user, not of the assistant; that is what is to be learned: "
         "add the answer, or remove the last turn")], []),
        (talk("a", ""), ["turn 2 (assistant) is empty; give it a text or remove the row"],
         ["turn 2 (assistant) is empty; give it a text or remove the row"]),
    ],
)  # fmt: skip
def test_faults_say_what_to_do(messages: Any, to_learn: list[str], to_predict: list[str]) -> None:
    row = {"messages": messages}

    assert list(TASK.faults(row, (), Dialogue.Options())) == [("messages", problem) for problem in to_learn]
    assert list(TASK.input_faults(row)) == [("messages", problem) for problem in to_predict]


def test_the_question_of_a_row_lacks_its_last_answer() -> None:
    question = TASK.question({"messages": talk("a", "b", "c", "d", system="S")})

    assert question == {"messages": talk("a", "b", "c", system="S")}
    assert list(TASK.input_faults(question)) == []
