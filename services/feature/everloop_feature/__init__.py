"""feature: all keyed streaming state, windows per entity and the join of predictions with labels."""
