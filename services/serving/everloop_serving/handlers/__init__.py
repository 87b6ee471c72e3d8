"""What serving does with each event and each request: one prediction per prediction id, wherever it was asked for."""
