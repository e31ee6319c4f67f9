"""Which model is the champion: evidence, decision, and a ledger that only one writer can extend."""
