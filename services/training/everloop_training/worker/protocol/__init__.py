"""What service and worker share: their messages, the pipe, and the file that names the outcome in progress."""
