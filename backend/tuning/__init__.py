"""The ways to tune, in the order of the page."""

from backend.methods import Tuning
from backend.tuning.adalora import AdaLoRA
from backend.tuning.adapters import Adapters
from backend.tuning.bitfit import BitFit
from backend.tuning.freeze import Freeze
from backend.tuning.full import Full
from backend.tuning.ia3 import IA3
from backend.tuning.lora import LoRA
from backend.tuning.prefix_tuning import PrefixTuning
from backend.tuning.prompt_tuning import PromptTuning

TUNINGS: dict[str, Tuning] = {
    "full": Full(),
    "freeze": Freeze(),
    "lora": LoRA(),
    "adalora": AdaLoRA(),
    "ia3": IA3(),
    "bitfit": BitFit(),
    "adapters": Adapters(),
    "prefix-tuning": PrefixTuning(),
    "prompt-tuning": PromptTuning(),
}
