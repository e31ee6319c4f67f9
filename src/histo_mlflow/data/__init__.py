"""From a folder on disk to batches: sources, manifest, checks, splits, packed pixels."""
