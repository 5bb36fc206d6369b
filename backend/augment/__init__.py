"""The augmentations, in the order in which they are asked for new rows."""

from backend.augment.back_translation import BackTranslation
from backend.augment.mentions import Mentions
from backend.augment.replay import Replay
from backend.augment.synonyms import Synonyms
from backend.augment.words import Words
from backend.methods import Augmentation

AUGMENTATIONS: dict[str, Augmentation] = {
    "words": Words(),
    "synonyms": Synonyms(),
    "mentions": Mentions(),
    "back-translation": BackTranslation(),
    "replay": Replay(),
}
