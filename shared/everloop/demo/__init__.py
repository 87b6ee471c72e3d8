"""The demo: the installation up, a real stream, a drift on the way, and the loop closing by itself before your eyes."""
