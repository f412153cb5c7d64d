"""Deployment: runtimes that run networks, files for these runtimes, and the time of one inference."""
