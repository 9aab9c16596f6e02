"""Final losses and curves out of other people's training logs."""
