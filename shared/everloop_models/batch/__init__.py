"""Batch lines: which estimators a spec may name, how they are trained, and how they become ONNX.

Nothing here imports scikit-learn, XGBoost or LightGBM but `survey.py` and what runs in the child process that trains.
"""
