"""A campaign of random faults: processes killed, nodes lost, storage that breaks, disks that fill.

`python -m tests.faults --rounds 100 --seed 1` plays a hundred rounds; `--round 17` replays one of them. However a run
was disturbed, once the same command has ended well its files and rows are those of an undisturbed run.
"""

import os

from jobs.session import LOCAL_ENVIRONMENT

# Ray reads it when it is first imported, whichever module does that.
os.environ.update(LOCAL_ENVIRONMENT)
