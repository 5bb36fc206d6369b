"""The objectives, the innermost first: those that replace the loss, that add to it, that ask for it several times."""

from backend.methods import Objective
from backend.objectives.contrastive import Contrastive
from backend.objectives.distillation import Distillation
from backend.objectives.ewc import EWC
from backend.objectives.fgm import FGM
from backend.objectives.focal import Focal
from backend.objectives.freelb import FreeLB
from backend.objectives.mixup import Mixup
from backend.objectives.pgd import PGD
from backend.objectives.pseudo_labels import PseudoLabels
from backend.objectives.r_drop import RDrop

OBJECTIVES: dict[str, Objective] = {
    "focal": Focal(),
    "mixup": Mixup(),
    "pseudo-labels": PseudoLabels(),
    "distillation": Distillation(),
    "contrastive": Contrastive(),
    "r-drop": RDrop(),
    "fgm": FGM(),
    "pgd": PGD(),
    "freelb": FreeLB(),
    "ewc": EWC(),
}
