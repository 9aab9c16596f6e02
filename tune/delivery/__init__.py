"""For hosts that do not see the driver's disk: a trial's data, and a way for its checkpoints."""
