"""Random mistakes of users: whatever is given, what comes back is an answer or one clear sentence.

`PARROTSCOPE_FUZZ=100 pytest tests/fuzz` draws 100 times more examples, others each time.
"""

import os

from hypothesis import HealthCheck, settings

_TIMES = int(os.environ.get("PARROTSCOPE_FUZZ", "1"))


def fuzz(examples: int) -> settings:
    return settings(
        max_examples=examples * _TIMES,
        derandomize=_TIMES == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
