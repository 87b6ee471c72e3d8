"""Plays a CSV file into a loop as if its rows happened now: each row once, and its label later."""
