"""What a TFX pipeline needs to train for a loop: its schema, its examples, a gate on the data, and the submission."""
