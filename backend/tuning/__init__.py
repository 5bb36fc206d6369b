"""The ways to tune, in the order of the page."""

from backend.methods import Tuning
from backend.tuning.freeze import Freeze
from backend.tuning.full import Full
from backend.tuning.lora import LoRA

TUNINGS: dict[str, Tuning] = {"full": Full(), "freeze": Freeze(), "lora": LoRA()}
