"""What an earlier run has left: its model, its classes, its rows. A model folder stands for the run that made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.errors import UserError
from backend.interfaces import Context, Task
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
