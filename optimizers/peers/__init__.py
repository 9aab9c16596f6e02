"""Other people's Muons, to measure ours against."""
