"""Statistics tables of the papers, by SQL over the profiles of a run."""
