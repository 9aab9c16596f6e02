"""MLflow: what a study's runs are, their metrics, and writing them once each."""
