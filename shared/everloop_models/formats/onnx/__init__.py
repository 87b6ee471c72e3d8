"""Models of other frameworks, as ONNX files that carry how they are fed and what their outputs mean."""
