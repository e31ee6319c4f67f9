"""Whole jobs: the stages in their order, wired together. What a command line or a study calls."""
