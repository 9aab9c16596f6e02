"""The Mixture-of-Experts language model that every variant trains."""
