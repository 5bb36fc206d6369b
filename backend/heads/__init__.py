"""Models that transformers has no class for; they are torch code, and imported where they are used."""
