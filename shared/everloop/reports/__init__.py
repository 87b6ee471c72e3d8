"""What is known of a loop, for people: collected from the services, then shown in a terminal, a page or a document."""
