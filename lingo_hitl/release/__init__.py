"""The dataset that leaves the house: pairs, splits, card, manifest."""
