"""Benchmarks: `make bench`. Every figure of interest is a ratio of two things measured in the same run."""
