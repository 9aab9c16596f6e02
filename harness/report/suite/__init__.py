"""The report of a suite: the leaderboard first, then what it rests on, then each task."""
