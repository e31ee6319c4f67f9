"""What a model looks at and how it sees images: needs torch."""
