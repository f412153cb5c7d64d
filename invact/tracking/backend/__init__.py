"""Access to an MLflow store: a folder, a database or a server, through MLflow or only by SQL to read."""
