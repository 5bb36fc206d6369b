"""The objectives, the innermost first: those that replace the loss, that add to it, that ask for it several times."""

from backend.methods import Objective
from backend.objectives.fgm import FGM
from backend.objectives.r_drop import RDrop

OBJECTIVES: dict[str, Objective] = {"r-drop": RDrop(), "fgm": FGM()}
