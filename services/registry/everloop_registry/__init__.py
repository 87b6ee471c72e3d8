"""registry: loop specs, versions, gate, rollout and rollback, every decision on one topic."""
