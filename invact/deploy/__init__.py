"""Deployment: networks on other runtimes, as files, and how long one inference takes."""
