"""Everything on disk: a study's folder, its records, its logs, and all of it read at once."""
