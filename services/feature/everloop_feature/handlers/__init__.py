"""What feature does with each event: loop states, observations of entities, and predictions with their labels."""
