"""Tree ensembles within ONNX models, as arrays, and the exact Shapley values of what they say."""
