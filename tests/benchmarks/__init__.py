"""Benchmarks: `make bench`. Every figure of interest is a ratio of two things measured in the same run."""

import os

from jobs.session import LOCAL_ENVIRONMENT

# Ray reads it when it is first imported, whichever module does that.
os.environ.update(LOCAL_ENVIRONMENT)
