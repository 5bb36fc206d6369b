"""Structured pruning: whole attention heads, neurons and layers of a trained encoder go that matter least."""
