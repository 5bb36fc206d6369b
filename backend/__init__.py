"""Launches and runs training."""
