"""The registry's rules, pure: the gate, the rollout, and the fold of decisions."""
