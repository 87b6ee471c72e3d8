"""Who asks, and whether they may: keys, tokens of a provider, and the check before every route."""
