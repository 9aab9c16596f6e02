"""Everything that is shown in a terminal of 80 columns."""
