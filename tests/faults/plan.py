"""What happens in a round: drawn from the campaign's seed and the round's number alone, so that it can be replayed."""

import random
from dataclasses import dataclass

from tests.faulty_proxy import STORAGE_FAULTS, StorageFault

PROCESS_FAULTS = (
    "kill worker",
    "kill node",
    "kill driver",
    "fill disk",
    "second driver",
    "pause worker",
    "stop driver",
    "pause node",
    "add node",
)
KINDS = (*PROCESS_FAULTS, *STORAGE_FAULTS)

HARMLESS = frozenset({"pause worker", "add node", "second driver"})
"""Faults that a command has to survive by itself."""

SHARDS = 5

COMMANDS = {("extract", "--only", "spot"): 3, ("extract",): 4, ("profile",): 5}
"""The commands of the rounds, and of how many datasets each makes parts."""

REQUESTS = 120
"""Requests of S3 within which storage goes wrong: a run of five shards makes about so many."""


@dataclass(frozen=True)
class Fault:
    """One fault of processes or of the disk.

    Attributes:
        kind: one of PROCESS_FAULTS.
        after: parts that are there before it strikes; it also waits for a worker to be there.
        delay: seconds it waits from then on.
        amount: in [0, 1): which of the processes or nodes, how long a pause takes, how much still fits the disk.
    """

    kind: str
    after: int
    delay: float
    amount: float

    def __str__(self) -> str:
        return f"{self.kind} ({self.amount:.2f}) {self.delay:.2f} s after part {self.after}"


@dataclass(frozen=True)
class Round:
    """One round: a command over shards and a run on disk or on S3, and what goes wrong."""

    seed: int
    number: int
    command: tuple[str, ...]
    on_s3: bool
    faults: tuple[Fault, ...]
    storage: tuple[StorageFault, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(fault.kind for fault in (*self.faults, *self.storage))

    @property
    def replay(self) -> str:
        return f"python -m tests.faults --seed {self.seed} --round {self.number}"

    def __str__(self) -> str:
        lines = [f"round {self.number} of seed {self.seed}: {' '.join(self.command)}, {'S3' if self.on_s3 else 'disk'}"]
        lines += [f"  {fault}" for fault in self.faults]
        lines += [f"  {fault.kind} ({fault.amount:.2f}) after request {fault.after}" for fault in self.storage]
        return "\n".join(lines)


def draw_round(seed: int, number: int) -> Round:
    """The round of a number: every kind of fault comes up once in fifteen rounds at least."""
    rng = random.Random(f"{seed}/{number}")
    first = KINDS[number % len(KINDS)]
    (command,) = rng.choices([*COMMANDS], weights=(6, 3, 1))  # so that a round takes seconds: no CLIP, fewest processes
    on_s3 = first in STORAGE_FAULTS or rng.random() < 0.4
    kinds = [first] if first in PROCESS_FAULTS else []
    kinds += rng.choices(PROCESS_FAULTS, k=rng.randrange(3 - len(kinds)))
    parts = COMMANDS[command] * SHARDS
    faults = [Fault(kind, rng.randrange(parts), rng.uniform(0, 0.3), rng.random()) for kind in kinds]
    storage = [first] if first in STORAGE_FAULTS else []
    storage += rng.choices(STORAGE_FAULTS, k=rng.randrange(6)) if on_s3 else []
    return Round(
        seed,
        number,
        command,
        on_s3,
        tuple(sorted(faults, key=lambda fault: fault.after)),
        tuple(StorageFault(kind, rng.randrange(REQUESTS), rng.random()) for kind in storage),
    )
