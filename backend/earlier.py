"""What was there before: the model, the classes and the rows of an earlier run, and rows of other files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from backend.errors import DataError, Fault, UserError
from backend.interfaces import Context, Row, Task
from backend.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from backend.data.prepared import Prepared, Split

JOB = "job.json"


class Earlier:
    """A finished run, by its folder or by that of its model; or a model alone, of which the rows are not known.

    `key` is the setting that names it. Raises UserError if there is no model.
    """

    def __init__(self, place: str, key: str) -> None:
        path = Path(place).expanduser().resolve()
        self._key = key
        self._run = path if (path / JOB).is_file() else path.parent
        self.name = place
        self.folder = self._run / "model" if self._run == path else path
        if not (self.folder / "config.json").is_file():
            raise UserError(
                f'{key}: "{place}" is neither the folder of a run that has finished nor a model folder; '
                "`tunewright runs` lists the runs"
            )

    @property
    def has_run(self) -> bool:
        """Tell whether the run that made the model is there."""
        return (self._run / JOB).is_file() and self.folder == self._run / "model"

    @property
    def state(self) -> str:
        """What changes when the model changes."""
        from backend.data.opening import stamp

        return f"{self.folder} {stamp(str(self.folder))}"

    def prepared(self) -> Prepared:
        """Return what the run knows of its rows. Raises UserError if there is no run."""
        from backend.data.prepared import load_prepared

        if not self.has_run:
            raise UserError(f'{self._key}: "{self.name}" is a model without its run; name the folder of the run')
        return load_prepared(self._run / "data")

    def examples(self) -> Split:
        """Return what the run was trained on. Raises UserError if it is not there."""
        from backend.data.prepared import Split

        self.prepared()
        return Split.open(self._run / "data", "train")

    def context(self) -> Context:
        """Return what the run's task knows beside the rows."""
        return self.prepared().context(self.tokenizer())

    def tokenizer(self) -> Tokenizer:
        """Return the model's tokenizer."""
        return Tokenizer.load(self.folder)

    def model(self, task: Task, device: Any) -> PreTrainedModel:
        """Return the model, ready to answer."""
        from backend.model import load_saved

        try:
            model: Any = load_saved(self.folder, task)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f'{self._key}: the model of "{self.name}" cannot be loaded: {first}') from error
        loaded: PreTrainedModel = model.to(device)
        return loaded

    def labels(self) -> tuple[str, ...]:
        """Return the classes, in the order of the model's outputs."""
        from transformers import AutoConfig

        from backend.model import saved_labels

        return saved_labels(AutoConfig.from_pretrained(self.folder, trust_remote_code=False))


class RowsOfRun(Sequence[Row]):
    """The training rows of an earlier run of a task, memory-mapped. Raises UserError if it was another task's."""

    def __init__(self, place: str, key: str, task: Task) -> None:
        from backend.tasks import TASKS

        earlier = Earlier(place, key)
        other = TASKS[earlier.prepared().task["name"]]
        if other is not task:
            raise UserError(f'{key}: "{place}" has learned {other.title}; name a run that has learned {task.title}')
        self._split = earlier.examples()

    def __len__(self) -> int:
        return self._split.row_count

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, int):
            return self._split.rows([index])[0]
        return self._split.rows(range(len(self))[index])


def rows_of_file(name: str, key: str, task: Task, *, learning: bool = True) -> list[Row]:
    """Return the rows of a file, which have targets if they are for learning. Raises UserError, and DataError."""
    from backend.data.checking import Faults, Reading
    from backend.data.opening import local_path, open_file

    source = open_file(local_path(name, key, task.files) or Path(name), name, "utf-8", key, task.files)
    faults = Faults()
    rows: list[Row] = []
    for record in Reading(task, {}, learning=learning).rows(source, faults):
        rows.append(record.values)
        for column, problem in task.input_faults(record.values):
            faults.add(Fault(name, problem, record.row, record.line, column))
    if faults:
        raise DataError(faults.sorted())
    return rows
