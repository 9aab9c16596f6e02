"""The workers of one trial: where they sit, how they meet, what became of them."""
