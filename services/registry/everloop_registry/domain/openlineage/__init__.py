"""What the registry tells a lineage backend: events of training and decisions, in OpenLineage's words."""
