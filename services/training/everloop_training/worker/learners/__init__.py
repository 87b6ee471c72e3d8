"""The rules of learning: lines that learn, runs that start them, versions they become."""
