"""The lineage of a loop: which data its models were made of; collected here, written by a module for each standard."""
