"""Pure rules of feature: what is known of loops, what is remembered of entities, and how labels join predictions."""
