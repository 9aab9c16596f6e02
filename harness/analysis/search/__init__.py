"""What a search found: which configuration was chosen, and what it cost."""
