"""The driver's side of the heartbeats: asks the boards, and never waits long for an answer."""

from collections.abc import Collection
from operator import itemgetter
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.heartbeats import Board, Heartbeat
from pipeline.crashes import Place

ANSWER_SECONDS = 0.5
LAST_WORDS_SECONDS = 30.0


class Boards:
    """One board for the workers, and another for those that work on a copy: boards go by the shard's id."""

    def __init__(self) -> None:
        self._boards = [_start()]

    def other(self, taken: Any = None) -> Any:
        """A board other than the one that another worker on the same shard tells."""
        if self._boards == [taken]:
            self._boards.append(_start())
        return next(board for board in self._boards if board != taken)

    def heartbeats(self, shards: Collection[str]) -> dict[str, Heartbeat]:
        """The last of some shards; of one that is copied, the further one."""
        beats: dict[str, Heartbeat] = {}
        for board in self._boards:
            told = _ask(board.snapshot.remote()) or {}
            for shard in told.keys() & shards:
                beats[shard] = max(told[shard], beats.get(shard, told[shard]), key=itemgetter(2))
        return beats

    def drop(self, shard: str) -> None:
        for board in self._boards:
            board.drop.remote(shard)

    def close(self) -> None:
        for board in self._boards:
            ray.kill(board)


def last_words(board: Any, shard: str) -> tuple[int, Place | None] | None:
    """`Board.last_words`, None where the board is gone."""
    words: tuple[int, Place | None] | None = _ask(board.last_words.remote(shard), LAST_WORDS_SECONDS)
    return words


def silent(board: Any, seconds: float) -> Collection[str]:
    """`Board.silent`, none where the board does not answer."""
    return _ask(board.silent.remote(seconds)) or ()


def _start() -> Any:
    # Beside the driver: heartbeats must not go with a worker's node.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()


def _ask(answer: Any, seconds: float = ANSWER_SECONDS) -> Any:
    try:
        return ray.get(answer, timeout=seconds)
    except RayError:  # late heartbeats change no result
        return None
