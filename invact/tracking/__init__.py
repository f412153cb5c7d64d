"""Tracking: the store and its records in MLflow. Only runs with MLflow status FINISHED count as results."""
