"""Who provides what serving needs: local disk, loaded models, the tail of the topic."""
