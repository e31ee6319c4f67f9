"""Runs in MLflow: start, continue, log, end. The only place of the project that tracks.

What is trained does not know of it: `training` yields records, `jobs` hands them to a
`tracking.run.TrackedRun`.
"""
