"""What is told of a study: tables, figures, the parent run, the live view."""
