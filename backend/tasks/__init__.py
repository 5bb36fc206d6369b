"""The tasks, in the order of the page."""

from backend.interfaces import Task
from backend.tasks.causal_language_modelling import CausalLanguageModelling
from backend.tasks.dialogue import Dialogue
from backend.tasks.masked_language_modelling import MaskedLanguageModelling
from backend.tasks.multi_label_classification import MultiLabelClassification
from backend.tasks.prompt_classification import PromptClassification
from backend.tasks.question_answering import QuestionAnswering
from backend.tasks.relation_extraction import RelationExtraction
from backend.tasks.summarization import Summarization
from backend.tasks.text_classification import TextClassification
from backend.tasks.text_scoring import TextScoring
from backend.tasks.token_classification import TokenClassification
from backend.tasks.translation import Translation

TASKS: dict[str, Task] = {
    "text-classification": TextClassification(),
    "prompt-classification": PromptClassification(),
    "multi-label-classification": MultiLabelClassification(),
    "text-scoring": TextScoring(),
    "token-classification": TokenClassification(),
    "relation-extraction": RelationExtraction(),
    "question-answering": QuestionAnswering(),
    "translation": Translation(),
    "summarization": Summarization(),
    "dialogue": Dialogue(),
    "masked-language-modelling": MaskedLanguageModelling(),
    "causal-language-modelling": CausalLanguageModelling(),
}
