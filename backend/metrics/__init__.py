"""Metrics as evaluate.Metric, with well-kept libraries beneath; imported where something is scored."""
