"""The rules of monitoring: losses and baselines, prequential scores, drift detectors and change points; all pure."""
