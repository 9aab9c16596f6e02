"""Optimizers of whole matrices: what they share, and one file each for those beside Muon."""
