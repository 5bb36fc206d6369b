"""A conversation with the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from backend.answering import Predictor
from backend.errors import UserError
from webui import predicting, render
from webui.shared import EVENT, QUIET
from webui.views.view import View, paced, predictor_of

SILENT = "The model ended its answer before the first word."
Message = dict[str, str]  # "role" and "content"


class ChatView(View):
    """A conversation whose answers are shown while they are written; the page keeps it, the server does not."""

    def draw(self) -> None:
        """Draw the conversation, the line to type in, and the settings."""
        # Text is shown as it is: what a model writes is no Markdown of ours.
        shown = gr.Chatbot(
            label="Conversation", height=420, render_markdown=False, buttons=["copy"], elem_id=f"answer-{self.name}"
        )
        said = gr.Textbox(
            label="Your turn", placeholder="Say something; Enter sends it", lines=1, elem_id=f"{self.name}-said"
        )
        with gr.Row(elem_classes="buttons"):
            send = gr.Button("Send", variant="primary", elem_id=f"predict-{self.name}")
            stop = gr.Button("Stop", variant="stop", elem_id=f"stop-{self.name}")
            clear = gr.Button("New conversation", elem_id=f"clear-{self.name}")
        wrong = gr.HTML(js_on_load=None, elem_classes="wrong")
        info = "What the assistant is told beforehand; may be empty."
        system = gr.Textbox(label="System prompt", info=info, lines=2, elem_id=f"{self.name}-system")
        self.draw_settings()
        told = gr.State([])
        settings = self.settings.inputs if self.settings else ()
        event = gr.on(
            [send.click, said.submit],
            self.reply,
            [self.source, told, said, system, *settings],
            [shown, told, said, wrong],
            show_progress_on=shown,
            **EVENT,
        )
        shown.clear(list, None, told, **QUIET)
        stop.click(None, cancels=[event], **QUIET)
        clear.click(lambda: ([], [], ""), None, [shown, told, wrong], cancels=[event], **QUIET)

    def reply(
        self, path: str | None, told: Sequence[Message], said: str, system: str, *settings: Any
    ) -> Iterator[tuple[Any, ...]]:
        """Add what the user says, and the answer while it is written."""
        talk = [*_answered(told), {"role": "user", "content": said.strip()}]
        before = [{"role": "system", "content": system.strip()}] if (system or "").strip() else []
        try:
            source = _asked(path, said)
            row = predicting.conversation_row(source, [*before, *talk])
            yield talk, talk, "", ""
            text = ""
            for text in paced(source.stream(row, self.generation(settings))):
                answered = [*talk, {"role": "assistant", "content": text}]
                yield answered, answered, gr.skip(), gr.skip()
            if not text.strip():
                yield gr.skip(), gr.skip(), gr.skip(), render.note(SILENT)
        except UserError as error:
            yield list(told), list(told), said, render.problem(str(error), "No answer")


def _asked(path: str | None, said: str) -> Predictor:
    if not said.strip():
        raise UserError("there is nothing to answer; say something first")
    return predictor_of(path)


def _answered(told: Sequence[Message]) -> list[Message]:
    """Return a conversation without a last turn to which there was no answer."""
    turns = [turn for turn in told if turn["content"].strip()]
    return turns[:-1] if turns and turns[-1]["role"] == "user" else turns
