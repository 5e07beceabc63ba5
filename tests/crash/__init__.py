"""Processes killed at every point of a session in paper mode, and many runs at the same moment."""
