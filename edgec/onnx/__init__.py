"""ONNX graphs: export, sessions, comparison, torch modules."""
