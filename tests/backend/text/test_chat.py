from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backend.errors import UserError
from backend.text.chat import Chat, chat_of
from backend.tokenizer import Tokenizer

Make = Callable[..., Tokenizer]

CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = """{% if messages[0]['role'] == 'system' %}
    {% set rest = messages[1:] %}
    {% set told = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
{% else %}
    {% set rest = messages %}
    {% set told = '' %}
{% endif %}
{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must alternate') }}
    {% endif %}
    {% if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + (told if loop.first else '') + message['content'].strip() + ' [/INST]' -}}
    {% else %}
{{- ' ' + message['content'].strip() + ' ' + eos_token -}}
    {% endif %}
{% endfor %}"""
# Ends a conversation with a token more, writes a block before the last answer only, and marks answers.
MARKED = """{% for message in messages -%}
{%- if message.role == 'assistant' %}<|im_start|>assistant
{% generation %}{% if loop.last %}<think>

</think>

{% endif %}{{ message.content | trim }}<|im_end|>
{% endgeneration %}{% else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- if loop.index > 99 %}{% break %}{% endif %}
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% else %}{{ eos_token }}{% endif %}"""
TOOLS = "{% if tools is none %}{{ messages | tojson(indent=1) }}{{ strftime_now('%Y') | length }}{% endif %}"


def talk(*contents: str, system: str = "") -> list[dict[str, str]]:
    turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(contents)]
    return [*([{"role": "system", "content": system}] if system else []), *turns]


TALKS = [
    talk("Hello"),
    talk("Hello", " Hi <there>! \n"),
    talk("你好", "你好。", "再见 & 'bye'", "再见。", system="Be brief."),
    talk("a", "a", "a", "a", "a"),
]


@pytest.mark.parametrize("ask", [True, False])
@pytest.mark.parametrize("template", [CHATML, LLAMA2, MARKED])
def test_text_is_what_transformers_makes_of_the_template(byte_tokenizer: Make, template: str, ask: bool) -> None:  # noqa: FBT001
    from transformers import PreTrainedTokenizerFast

    ours = byte_tokenizer(chat_template=template)
    names = {f"{role}_token": token for role, token in ours.special.items()}
    theirs = PreTrainedTokenizerFast(tokenizer_object=ours._fast, **names)
    for messages in TALKS:
        expected = theirs.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=ask
        )
        assert Chat(ours).render(messages, ask=ask) == expected


def test_a_template_has_what_transformers_gives_it(byte_tokenizer: Make) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    chat = Chat(byte_tokenizer())
    chat._template = Chat(byte_tokenizer(chat_template=CHATML))._template.environment.from_string(TOOLS)
    expected, _ = render_jinja_template([TALKS[2]], chat_template=TOOLS)

    assert chat.render(TALKS[2]) == expected[0]
    assert expected[0].endswith("]4")


@pytest.mark.parametrize(
    ("template", "replies", "stop_ids"),
    [
        (CHATML, ["你好。<|im_end|>", "再见。<|im_end|>"], (260, 258)),
        (LLAMA2, [" 你好。 </s>", " 再见。 </s>"], (258,)),
        (MARKED, ["你好。<|im_end|>", "<think>\n\n</think>\n\n再见。<|im_end|>"], (260, 258)),
        (None, [" 你好。</s>", " 再见。</s>"], (258,)),
    ],
)
def test_replies_are_what_the_assistant_says_with_its_end(
    byte_tokenizer: Make, template: str | None, replies: list[str], stop_ids: tuple[int, ...]
) -> None:
    chat = Chat(byte_tokenizer(chat_template=template))

    text, spans = chat.with_replies(TALKS[2])

    assert [text[start:end] for start, end in spans] == replies
    assert chat.stop_ids == stop_ids
    assert chat.appended == ()


@pytest.mark.parametrize("template", [CHATML, LLAMA2, MARKED, None])
def test_an_answer_begins_where_the_text_to_answer_ends(byte_tokenizer: Make, template: str | None) -> None:
    chat = Chat(byte_tokenizer(chat_template=template))
    talk = TALKS[2]

    text, spans = chat.with_replies(talk)

    assert [text[:start] for start, _ in spans] == [chat.render(talk[:2], ask=True), chat.render(talk[:4], ask=True)]


def test_words_of_an_answer_are_not_looked_for_in_the_question(byte_tokenizer: Make) -> None:
    text, spans = Chat(byte_tokenizer(chat_template=CHATML)).with_replies(talk("a", "a", "assistant", "a"))

    assert [text[start:end] for start, end in spans] == ["a<|im_end|>", "a<|im_end|>"]
    assert spans[1][1] == len(text) - 1


def test_a_model_without_a_template_gets_a_plain_one(byte_tokenizer: Make) -> None:
    chat = Chat(byte_tokenizer())

    assert chat.render(talk("Hello", "Hi!", "Bye", system="Be brief."), ask=True) == (
        "Be brief.\n\nUser: Hello\nAssistant: Hi!</s>\nUser: Bye\nAssistant:"
    )


def test_the_plain_template_begins_as_the_tokenizer_does(byte_tokenizer: Make) -> None:
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    tokenizer._fast.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 257)])

    assert Chat(tokenizer).render(talk("Hello", "Hi!")) == "<s>User: Hello\nAssistant: Hi!</s>\n"


def test_the_default_is_taken_of_several_templates(byte_tokenizer: Make) -> None:
    several = [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": "default", "template": CHATML}]

    assert Chat(byte_tokenizer(chat_template=several)).render(talk("Hello")).startswith("<|im_start|>system")


def test_a_template_without_an_end_gets_one_at_the_end_of_a_conversation(byte_tokenizer: Make) -> None:
    template = "{% for m in messages %}{{ '### ' + m.role + ': ' + m.content + '\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}### assistant:{% endif %}"

    chat = Chat(byte_tokenizer(chat_template=template))

    assert (chat.appended, chat.stop_ids) == ((258,), (258,))


def test_an_end_of_turn_that_is_no_special_token_is_one_too(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer(chat_template=CHATML.replace("<|im_end|>", "<end>"))
    tokenizer._fast.add_tokens(["<end>"])

    chat = Chat(tokenizer)

    assert (chat.appended, chat.stop_ids) == ((), (262, 258))


def test_a_chat_is_made_once_for_a_tokenizer(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer()

    assert chat_of(tokenizer) is chat_of(tokenizer)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if %}", "the chat template of the model cannot be read: "),
        ("{{ raise_exception('no!') }}", "does not take a conversation of user, assistant: no!; change such rows"),
        ("{{ messages[0].__class__.__mro__ }}{{ messages[0].content.__class__ }}", "access to attribute '__class__'"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}tunewright", "rewrites earlier turns when later ones follow"),
        (
            "{% for m in messages %}{{ m.content if m.role == 'user' else 'tunewright' }}{% endfor %}",
            'leaves out or changes what an assistant says ("answer")',
        ),
    ],
)
def test_a_template_that_does_not_fit_is_refused(byte_tokenizer: Make, template: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Chat(byte_tokenizer(chat_template=template)).with_replies(talk("question", "answer"))

    assert message in str(caught.value)


def test_a_model_without_template_and_end_is_refused(byte_tokenizer: Make) -> None:
    config: dict[str, Any] = {"eos_token": None}

    with pytest.raises(UserError, match="neither a chat template nor an end-of-text token; take another model"):
        Chat(byte_tokenizer(**config))
