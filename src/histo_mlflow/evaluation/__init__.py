"""What a run's predictions say: metrics and figures. Reads tables and arrays; needs no torch."""
