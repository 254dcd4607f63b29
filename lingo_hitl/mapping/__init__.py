"""Where a row lies among the others: vectors, perplexity, a map, named clusters."""
