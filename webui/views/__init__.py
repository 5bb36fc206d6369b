"""How the Predict tab asks and shows answers: a view for each kind of answer, by the name that tasks give."""

from webui.views.answer import AnswerView
from webui.views.chat import ChatView
from webui.views.continuation import ContinuationView
from webui.views.fill import FillView
from webui.views.relation import RelationView
from webui.views.scores import ScoresView
from webui.views.spans import SpansView
from webui.views.text import TextView
from webui.views.view import View

VIEWS: dict[str, type[View]] = {
    "scores": ScoresView,
    "spans": SpansView,
    "relation": RelationView,
    "answer": AnswerView,
    "text": TextView,
    "chat": ChatView,
    "fill": FillView,
    "continue": ContinuationView,
}
