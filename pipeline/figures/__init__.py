"""Figures of the papers, drawn from the tables of a run."""
