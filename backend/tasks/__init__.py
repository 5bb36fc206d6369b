"""The tasks, in the order of the page."""

from backend.interfaces import Task
from backend.tasks.text_classification import TextClassification

TASKS: dict[str, Task] = {"text-classification": TextClassification()}
