"""training: lines that learn, challenge and become versions."""
