"""The rules of training: lines that learn, runs that start them, versions they become."""
