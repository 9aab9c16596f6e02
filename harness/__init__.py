"""The study, the training loop, the files, the statistics and the report."""
