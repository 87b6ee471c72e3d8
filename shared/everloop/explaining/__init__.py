"""Says of a past prediction which version answered and why, what it was made of, and whether it predicts the same."""
