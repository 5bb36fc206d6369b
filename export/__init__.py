"""Trained models to proven ONNX bundles, and bundles to answers."""
