"""Hostile requests for a server that classifies images: the table, the wire, the judgement."""
