"""What several services know about loops and learning, once; pure, and without a model library."""
