"""From several tasks to a leaderboard: what the analyses of their studies say together."""
