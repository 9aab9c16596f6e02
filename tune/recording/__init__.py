"""What trials yield comes to the disk in order, and then to whoever wants to hear of it."""
