from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from backend import heartbeat as module
from backend.distributed import OneProcess
from backend.heartbeat import Peer, heartbeat, watch_hosts

T = TypeVar("T")
BEAT, SILENCE = 0.05, 1.0


class Threads:
    """A group whose ranks are threads."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.meeting = threading.Barrier(ranks)
        self.values: dict[int, Any] = {}

    def exchange(self, rank: int, value: Any) -> dict[int, Any]:
        self.values[rank] = value
        self.meeting.wait(10)
        found = dict(self.values)
        self.meeting.wait(10)
        return found


class Rank:
    """The group, seen from one of the threads."""

    def __init__(self, threads: Threads, rank: int) -> None:
        self.threads, self.rank, self.ranks = threads, rank, threads.ranks

    def barrier(self) -> None:
        self.threads.exchange(self.rank, None)

    def sum(self, values: Sequence[float]) -> list[float]:
        raise NotImplementedError

    def gather(self, value: T) -> list[T]:
        found = self.threads.exchange(self.rank, value)
        return [found[rank] for rank in range(self.ranks)] if self.rank == 0 else []

    def broadcast(self, value: T) -> T:
        result: T = self.threads.exchange(self.rank, value)[0]
        return result


class Watched:
    """Ranks that are threads, each with its heartbeat."""

    def __init__(self, ranks: int) -> None:
        self.lost: queue.Queue[tuple[int, Peer]] = queue.Queue()
        self._threads = Threads(ranks)
        self._leave = [threading.Event() for _ in range(ranks)]
        self._running = [threading.Thread(target=self._be, args=(rank,), daemon=True) for rank in range(ranks)]
        self.entered = threading.Barrier(ranks + 1)
        for thread in self._running:
            thread.start()
        self.entered.wait(10)

    def _be(self, rank: int) -> None:
        with heartbeat(Rank(self._threads, rank), "127.0.0.1", lambda peer: self.lost.put((rank, peer)), BEAT, SILENCE):
            self.entered.wait(10)
            self._leave[rank].wait(30)

    def leave(self, *ranks: int) -> None:
        for rank in ranks:
            self._leave[rank].set()
        for rank in ranks:
            self._running[rank].join(10)
            assert not self._running[rank].is_alive()


def test_ranks_that_are_well_miss_nobody_and_leave_in_any_order() -> None:
    ranks = Watched(3)
    time.sleep(2 * SILENCE)
    ranks.leave(1)
    time.sleep(2 * SILENCE)  # rank 1 has said goodbye
    ranks.leave(0, 2)
    assert [ranks.lost.get() for _ in range(ranks.lost.qsize())] == []


def test_a_rank_that_never_connects_is_named_by_rank_0() -> None:
    lost: queue.Queue[Peer] = queue.Queue()
    threads = Threads(2)

    def silent() -> None:
        group = Rank(threads, 1)
        group.gather("far-away")
        group.broadcast(None)

    other = threading.Thread(target=silent)
    other.start()
    with heartbeat(Rank(threads, 0), "127.0.0.1", lost.put, BEAT, SILENCE):
        peer = lost.get(timeout=10)
    other.join()
    assert (peer.rank, peer.host) == (1, "far-away")


@pytest.mark.parametrize("closes", [True, False])
def test_a_rank_that_falls_silent_is_named_with_its_host_and_address(*, closes: bool) -> None:
    lost: queue.Queue[Peer] = queue.Queue()
    threads = Threads(2)

    def short_of_breath() -> None:
        group = Rank(threads, 1)
        group.gather("far-away")
        token, port = group.broadcast((b"", 0))
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(token + (1).to_bytes(4, "big"))
        connection.sendall(module.BEAT)
        if closes:
            connection.close()
        else:
            time.sleep(3 * SILENCE)
            connection.close()

    other = threading.Thread(target=short_of_breath)
    other.start()
    with heartbeat(Rank(threads, 0), "127.0.0.1", lost.put, BEAT, SILENCE):
        peer = lost.get(timeout=10)
    other.join()
    assert (peer.rank, peer.host) == (1, "far-away (127.0.0.1)")


def test_another_rank_names_the_address_of_rank_0_when_that_falls_silent() -> None:
    lost: queue.Queue[Peer] = queue.Queue()
    threads = Threads(2)
    listener = socket.create_server(("127.0.0.1", 0))

    def mute_rank_0() -> None:
        group = Rank(threads, 0)
        group.gather("leader")
        group.broadcast((bytes(module.TOKEN_BYTES), listener.getsockname()[1]))

    other = threading.Thread(target=mute_rank_0)
    other.start()
    with heartbeat(Rank(threads, 1), "127.0.0.1", lost.put, BEAT, SILENCE):
        peer = lost.get(timeout=10)
    other.join()
    listener.close()
    assert (peer.rank, peer.host) == (0, "127.0.0.1")


def test_a_rank_that_cannot_reach_rank_0_says_where_and_what_to_do() -> None:
    threads = Threads(2)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    def rank_0() -> None:
        group = Rank(threads, 0)
        group.gather("leader")
        group.broadcast((b"", port))

    other = threading.Thread(target=rank_0)
    other.start()
    with (
        pytest.raises(ConnectionError, match=f"cannot reach rank 0 at 127.0.0.1, port {port} .* at every port"),
        heartbeat(Rank(threads, 1), "127.0.0.1", lambda _: None, BEAT, SILENCE),
    ):
        pass
    other.join()


def test_a_stranger_is_no_rank() -> None:
    lost: queue.Queue[Peer] = queue.Queue()
    threads = Threads(2)

    def stranger() -> None:
        group = Rank(threads, 1)
        group.gather("far-away")
        _, port = group.broadcast((b"", 0))
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(bytes(module.TOKEN_BYTES) + (1).to_bytes(4, "big"))
            assert connection.recv(1) == b""  # the door is closed

    other = threading.Thread(target=stranger)
    other.start()
    with heartbeat(Rank(threads, 0), "127.0.0.1", lost.put, BEAT, SILENCE):
        assert lost.get(timeout=10).host == "far-away"
    other.join()


def test_ranks_of_one_host_are_left_to_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with ExitStack() as stack:
        stack.enter_context(watch_hosts(OneProcess(), lambda _: None))
        stack.enter_context(watch_hosts(Rank(Threads(2), 0), lambda _: None))
        assert threading.active_count() == before
