"""Drawn shards whose truth is known, and the small CLIP that reads them: the pipeline's own test bench."""
