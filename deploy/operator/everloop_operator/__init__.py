"""Loops as Kubernetes resources: what a resource says is applied, and its status says how the loop is doing."""
