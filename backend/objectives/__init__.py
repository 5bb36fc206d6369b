"""The objectives, the innermost first: those that replace the loss, that add to it, that ask for it several times."""

from backend.methods import Objective
from backend.objectives.contrastive import Contrastive
from backend.objectives.distillation import Distillation
from backend.objectives.fgm import FGM
from backend.objectives.focal import Focal
from backend.objectives.freelb import FreeLB
from backend.objectives.mixup import Mixup
from backend.objectives.pgd import PGD
from backend.objectives.r_drop import RDrop

OBJECTIVES: dict[str, Objective] = {
    "focal": Focal(),
    "mixup": Mixup(),
    "distillation": Distillation(),
    "contrastive": Contrastive(),
    "r-drop": RDrop(),
    "fgm": FGM(),
    "pgd": PGD(),
    "freelb": FreeLB(),
}
