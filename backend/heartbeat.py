"""Find out that a host was lost: without a word of it, collective operations wait for many minutes.

A host that loses its power or its network sends nothing, so the connections to it stay open. Rank 0 and each other
rank therefore say something to each other every few seconds, over a connection of their own.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

from backend.distributed import Group, local_ranks

BEAT_SECONDS = 5.0
SILENCE_SECONDS = 30.0
LEAVE_SECONDS = 1.0
BEAT, GOODBYE = b".", b"!"
TOKEN_BYTES = 16


@dataclass
class Peer:
    """A rank at the other end of a connection."""

    rank: int
    host: str
    connection: socket.socket | None = None  # None: has not connected yet, or its connection is closed
    heard: float = field(default_factory=time.monotonic)
    gone: bool = False  # it has said goodbye


Lost = Callable[[Peer], None]


def watch_hosts(group: Group, lost: Lost) -> AbstractContextManager[None]:
    """Call `lost` when a host is lost; on one host its launcher sees to it that all ranks end together."""
    return heartbeat(group, os.environ["MASTER_ADDR"], lost) if local_ranks() < group.ranks else nullcontext()


@contextmanager
def heartbeat(
    group: Group, address: str, lost: Lost, beat: float = BEAT_SECONDS, silence: float = SILENCE_SECONDS
) -> Iterator[None]:
    """Call `lost`, in another thread, with a rank that was silent for so many seconds; all ranks enter together.

    `address` is that of rank 0. A rank that leaves says so, and is not missed.
    """
    hosts = group.gather(socket.gethostname())
    token, listener = b"", None
    if group.rank == 0:
        token = secrets.token_bytes(TOKEN_BYTES)
        listener = _listen(group.ranks)
    token, port = group.broadcast((token, listener.getsockname()[1] if listener else 0))
    peers = [Peer(rank, host) for rank, host in enumerate(hosts) if rank]
    if listener is None:
        peers = [Peer(0, address, _connect(group.rank, (address, port), token, silence))]
        silence += 2 * beat  # where a cable is cut, both ends could name the other: rank 0 speaks first
    watch = _Watch(peers, listener, token, lost, (beat, silence))
    thread = threading.Thread(target=watch.run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.leaving.set()
        thread.join()


def _listen(ranks: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, backlog=ranks, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=ranks)


def _connect(rank: int, place: tuple[str, int], token: bytes, seconds: float) -> socket.socket:
    try:
        connection = socket.create_connection(place, timeout=seconds)
        connection.sendall(token + rank.to_bytes(4, "big"))
    except OSError as error:
        raise ConnectionError(
            f"rank {rank} on {socket.gethostname()} cannot reach rank 0 at {place[0]}, port {place[1]} ({error}); "
            "the hosts of a run must reach each other at every port"
        ) from error
    return connection


class _Watch:
    """The thread of one rank, over its connections."""

    def __init__(
        self, peers: list[Peer], listener: socket.socket | None, token: bytes, lost: Lost, times: tuple[float, float]
    ) -> None:
        self.leaving = threading.Event()
        self._peers = {peer.rank: peer for peer in peers}
        self._listener = listener
        self._token = token
        self._lost = lost
        self._beat, self._silence = times
        self._selector = selectors.DefaultSelector()
        if listener:
            self._selector.register(listener, selectors.EVENT_READ)
        for peer in peers:
            if peer.connection:
                self._selector.register(peer.connection, selectors.EVENT_READ, peer)

    def run(self) -> None:
        """Speak and listen until this rank leaves, or another one is lost."""
        try:
            self._watch()
        finally:
            self._close()

    def _watch(self) -> None:
        spoke = 0.0
        while not self.leaving.is_set():
            for key, _ in self._selector.select(timeout=min(0.2, self._beat)):
                self._hear(key.data) if key.data else self._accept()
            now = time.monotonic()
            if now - spoke >= self._beat:
                spoke = now
                self._say(BEAT)
            for peer in self._peers.values():
                if not peer.gone and now - peer.heard > self._silence:
                    self._lost(peer)
                    return
        self._leave()

    def _leave(self) -> None:
        """Say goodbye, and wait a moment until it has been heard: closing a connection with unread words resets it."""
        self._say(GOODBYE)
        for connection in [peer.connection for peer in self._peers.values() if peer.connection]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(LEAVE_SECONDS)
                while connection.recv(4096):
                    pass

    def _close(self) -> None:
        self._selector.close()
        open_still = [self._listener, *(peer.connection for peer in self._peers.values())]
        for connection in filter(None, open_still):
            connection.close()

    def _accept(self) -> None:
        """Take the connection of a rank; whoever does not know the token is none."""
        assert self._listener  # noqa: S101 - for the types
        connection, address = self._listener.accept()
        connection.settimeout(LEAVE_SECONDS)
        with suppress(OSError):
            said = connection.recv(TOKEN_BYTES + 4, socket.MSG_WAITALL)
            peer = self._peers.get(int.from_bytes(said[TOKEN_BYTES:], "big"))
            if peer and not peer.connection and secrets.compare_digest(said[:TOKEN_BYTES], self._token):
                peer.connection, peer.heard = connection, time.monotonic()
                peer.host = f"{peer.host} ({address[0].removeprefix('::ffff:')})"
                self._selector.register(connection, selectors.EVENT_READ, peer)
                return
        connection.close()

    def _hear(self, peer: Peer) -> None:
        """Take note of a sign of life; one that closes its connection without goodbye falls silent."""
        assert peer.connection  # noqa: S101 - for the types
        said = b""
        with suppress(OSError):
            said = peer.connection.recv(4096)
        peer.gone = peer.gone or GOODBYE in said
        if said:
            peer.heard = time.monotonic()
        else:
            self._selector.unregister(peer.connection)
            peer.connection.close()
            peer.connection = None

    def _say(self, word: bytes) -> None:
        for peer in self._peers.values():
            if peer.connection:
                with suppress(OSError):  # whoever cannot be told is not heard either
                    peer.connection.send(word, socket.MSG_DONTWAIT)
