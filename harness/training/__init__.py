"""One trial in one gang: the loop, what it measures, what holds the weights."""
