"""Optimizers that are not ours: any `torch.optim.Optimizer`, or one written on our base classes."""
