"""Launches and runs training."""

__version__ = "0.1.0"
