"""The ways to tune, in the order of the page."""

from backend.methods import Tuning
from backend.tuning.freeze import Freeze
from backend.tuning.full import Full

TUNINGS: dict[str, Tuning] = {"full": Full(), "freeze": Freeze()}
