"""Numbers to verdicts: statistics, comparisons, searches, and whether they keep their promises."""
