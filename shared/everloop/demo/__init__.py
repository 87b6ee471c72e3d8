"""The demo: a local installation, a real stream, a drift on the way, and a view of the loop as it closes."""
