"""Whether a winner is an accident: its trainings once more, planned, judged and told."""
