"""The command `optbench`: the composition root; its commands import what is heavy."""
