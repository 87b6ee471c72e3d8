"""How records of a foreign topic become observations and labels, pure: decode, find the values, check them."""
