"""Ending real trainings at chosen moments, and finding out whether they go on as the same run."""
