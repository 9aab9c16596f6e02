"""The question, frozen: the study file, its settings, its trials, its plan."""
