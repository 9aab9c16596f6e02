"""What holds the weights and exchanges the gradients: one protocol, several answers."""
