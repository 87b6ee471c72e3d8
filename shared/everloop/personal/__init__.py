"""What a person may ask for: all that is known of them, and that it is forgotten."""
