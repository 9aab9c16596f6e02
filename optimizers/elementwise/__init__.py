"""Optimizers that work element by element: one file each, on whatever part of a weight is here."""
