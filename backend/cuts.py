"""What layers and rows that are cut into parts ask of a job alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from backend.errors import UserError
from backend.sources import model_source

if TYPE_CHECKING:
    from backend.spec import JobSpec


def own_loss(job: JobSpec) -> Iterator[str]:
    """Yield a fault if a job has objectives around the loss of its task."""
    if wanted := [name for name, options in job.objectives if options is not None]:
        yield f"trains with the task's own loss; leave out objectives.{', objectives.'.join(wanted)}"


def known_config(job: JobSpec, kinds: Sequence[str], does: str, instead: str) -> Any:
    """Return the configuration of a job's model. Raises UserError if it is of none of the kinds."""
    from transformers import AutoConfig

    model = AutoConfig.from_pretrained(model_source(job.model), revision=job.revision, trust_remote_code=False)
    if model.model_type not in kinds:
        raise UserError(
            f'model "{job.model}": {does} {", ".join(kinds)}, not of model_type "{model.model_type}"; {instead}, '
            "whatever the model"
        )
    return model
