"""Play rounds of random faults; the exit status is 1 if any of them found a bug."""

import argparse
import logging
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.faults.campaign import rounds, stage, summary, told
from tests.faults.rounds import Result


def main() -> None:
    """Play what is asked for and print how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the shards and of all rounds")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first round, to play a campaign in pieces")
    parser.add_argument("--round", type=int, help="replay this one alone")
    asked = parser.parse_args()
    numbers = range(asked.first, asked.first + asked.rounds) if asked.round is None else [asked.round]
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="faults"))
    results: list[Result] = []
    try:
        with stage(folder, asked.seed) as scene:
            if scene.disk.refusal:
                print(f"no disk will be full: {scene.disk.refusal}")
            for result in rounds(scene, asked.seed, numbers):
                results.append(result)
                kinds = ", ".join(f"{kind} {times}" for kind, times in result.struck.items()) or "nothing struck"
                wrong = "a bug" if result.problems else "equal"
                print(f"round {result.plan.number}: {wrong} after {result.commands} commands: {kinds}", flush=True)
                if result.problems:
                    print(told(result), flush=True)
    finally:
        print(summary(results))
    if any(result.problems for result in results):
        sys.exit(f"kept: {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
