"""Plays a CSV file into a loop as if its rows happened now: rows in, labels later, nothing twice."""
