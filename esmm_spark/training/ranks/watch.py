"""A watchdog over the ranks, beside their collective operations: detects ranks that stall or are gone.

Each rank has a thread that tells rank 0 once a second what its main thread does (activity.py), in lines of
JSON over a TCP connection of its own; a thread on rank 0 judges. It ends the job when some rank has waited
for `timeout_s` for one that works, when one gives no sign of life for so long, or when rank 0 waits for one
that is dead. A rank that is at something which may take long (a checkpoint, compiling) stops that clock.
docs/decisions/018 says why this way.

    client -> hub    {"token", "rank", "host"}, then {"kind", "what", "age_s"} each second, {"bye"}
    hub -> client    {} each second, {"trouble": who is gone}, {"reason": why all end}, {"bye"}

The token keeps strangers out; it came by a collective operation.
"""

import json
import logging
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from esmm_spark.runtime import activity
from esmm_spark.training.ranks import judge
from esmm_spark.training.ranks.judge import Peer
from esmm_spark.training.ranks.launch import end_now, host_name, own_address

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_SIGNS = 1.0
# After a longer pause of this thread itself (a stopped process, a laptop asleep) silence says nothing.
_PAUSE_S = 5.0
# Where rank 0 lives, its own reason comes first, and its message.
_SECONDS_MORE_FOR_OTHERS = 3.0
_SECONDS_TO_CONNECT = 10.0
_MOST_BYTES = 1 << 16


class Watch:
    """One rank's part of the watch; the first rank's holds the hub, too.

    Args:
        rank: this rank.
        num_ranks: ranks of the job.
        timeout_s: `train.stall_timeout_s`.
    """

    def __init__(self, rank: int, num_ranks: int, timeout_s: float) -> None:
        self._rank, self._timeout_s = rank, timeout_s
        self._hub = _Hub(num_ranks, timeout_s) if rank == 0 else None
        self._client: _Client | None = None

    @property
    def address(self) -> str:
        """Where the hub listens, for all ranks; empty on all ranks but the first."""
        return self._hub.address if self._hub else ""

    def join(self, address: str) -> None:
        """Begins to tell the hub at `address` what this rank does."""
        if self._hub is not None:
            self._hub.start()
        self._client = _Client(address, self._rank, self._timeout_s)
        self._client.start()

    def trouble(self, patience_s: float) -> str:
        """Returns which ranks are gone, once it is known; empty if nobody says so within `patience_s`."""
        give_up = time.monotonic() + patience_s
        while time.monotonic() < give_up:
            if self._client is not None and self._client.trouble:
                return self._client.trouble
            time.sleep(0.05)
        return ""

    def close(self) -> None:
        """Tells the others that this rank ends, and stops watching."""
        if self._client is not None:
            self._client.close()
        if self._hub is not None:
            self._hub.close()


class _Hub(threading.Thread):
    """Listens to all ranks, judges them, and tells all of them."""

    def __init__(self, num_ranks: int, timeout_s: float) -> None:
        super().__init__(name="watch hub", daemon=True)
        self._num_ranks, self._timeout_s = num_ranks, timeout_s
        self._listening = socket.create_server((own_address(), 0))
        self._listening.setblocking(False)
        self._token = secrets.token_hex(16)
        host, port = self._listening.getsockname()[:2]
        self.address = f"{host} {port} {self._token} {host_name()}"
        self._peers: dict[socket.socket, Peer] = {}
        self._unread: dict[socket.socket, bytes] = {}
        self._last_unhurried_s = time.monotonic()
        self._told = ""
        self._closing = threading.Event()

    def run(self) -> None:
        """Listens until it is closed."""
        last_tick_s = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            while not self._closing.is_set():
                for key, _ in selector.select(_SECONDS_BETWEEN_SIGNS / 4):
                    self._hear(selector, key.fileobj)
                now = time.monotonic()
                peers = list(self._peers.values())
                self._tell_who_is_gone(peers, now)
                if now - last_tick_s < _SECONDS_BETWEEN_SIGNS:
                    continue
                if now - last_tick_s > _PAUSE_S:
                    for peer in peers:
                        peer.heard_s = now
                last_tick_s = now
                if any(peer.is_present and peer.kind is activity.Kind.UNHURRIED for peer in peers):
                    self._last_unhurried_s = now
                if reason := judge.reason_to_end(peers, self._timeout_s, now, self._last_unhurried_s):
                    self._end_all(reason)
                self._tell_all({})
            self._tell_all({"bye": True})
        for connection in (self._listening, *self._unread):
            connection.close()

    def _tell_who_is_gone(self, peers: Sequence[Peer], now: float) -> None:
        trouble = judge.trouble(peers, now)
        if trouble != self._told:
            self._tell_all({"trouble": trouble})
            self._told = trouble
        if reason := judge.cut_off(peers, activity.current(), now):
            self._end_all(reason)

    def close(self) -> None:
        """Tells all ranks that the watch is over, if it ever began: of a single rank it doesn't."""
        self._closing.set()
        if self.ident is None:
            self._listening.close()
        else:
            self.join(_PAUSE_S)

    def _hear(self, selector: selectors.BaseSelector, source: Any) -> None:
        if source is self._listening:
            connection, _ = self._listening.accept()
            connection.setblocking(False)
            self._unread[connection] = b""
            selector.register(connection, selectors.EVENT_READ)
            return
        messages = self._messages(source)
        if messages is None:
            selector.unregister(source)
            del self._unread[source]
            source.close()
            if source in self._peers:
                self._peers[source].end(time.monotonic())
            return
        for message in messages:
            self._note(source, message)

    def _messages(self, source: socket.socket) -> list[dict[str, Any]] | None:
        """Returns what a connection says; None at its end, or if a message is malformed."""
        try:
            received = source.recv(_MOST_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not received:
            return None
        *lines, self._unread[source] = (self._unread[source] + received).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return None
        known = source in self._peers or (bool(messages) and messages[0].get("token") == self._token)
        return messages if known and len(self._unread[source]) < _MOST_BYTES else None

    def _note(self, source: socket.socket, message: dict[str, Any]) -> None:
        now = time.monotonic()
        if "token" in message:
            self._peers[source] = Peer(message["rank"], self._num_ranks, message["host"], heard_s=now)
            return
        peer = self._peers[source]
        peer.heard_s = now
        if "bye" in message:
            peer.end(now, said_so=True)
        else:
            peer.kind, peer.what = activity.Kind(message["kind"]), message["what"]
            peer.age_s = message["age_s"]

    def _tell_all(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        for connection, peer in self._peers.items():
            if peer.is_present:
                with suppress(OSError):  # it is gone, or will be found silent
                    connection.send(line)

    def _end_all(self, reason: str) -> None:
        self._tell_all({"reason": reason})
        end_now(reason)


class _Client(threading.Thread):
    """Tells the hub what this rank does, and ends this rank when the hub says so or is silent."""

    def __init__(self, address: str, rank: int, timeout_s: float) -> None:
        super().__init__(name="watch", daemon=True)
        host, port, self._token, self._hub_name = address.split(" ", 3)
        self._address, self._rank, self._timeout_s = (host, int(port)), rank, timeout_s
        self._closing = threading.Event()
        self._unread = b""
        self._connection: socket.socket | None = None
        self.trouble = ""

    def run(self) -> None:
        """Tells and listens until the watch is over."""
        try:
            connection = socket.create_connection(self._address, _SECONDS_TO_CONNECT)
        except OSError as error:
            # The ranks themselves may have another way.
            _log.warning(
                f"rank {self._rank} on {host_name()} can't reach {self._hub_name} at "
                f"{self._address[0]}:{self._address[1]} ({error}): train.stall_timeout_s does not watch it"
            )
            return
        with connection:
            self._connection = connection
            connection.settimeout(_SECONDS_BETWEEN_SIGNS / 2)
            self._say(connection, {"token": self._token, "rank": self._rank, "host": host_name()})
            heard_s = last_s = time.monotonic()
            while not self._closing.is_set():
                now = activity.current()
                age_s = time.monotonic() - now.since_s
                self._say(connection, {"kind": now.kind, "what": now.what, "age_s": age_s})
                for message in self._messages(connection):
                    heard_s = time.monotonic()
                    self._obey(message)
                if time.monotonic() - last_s > _PAUSE_S:
                    heard_s = time.monotonic()
                last_s = time.monotonic()
                self._require_hub(last_s - heard_s)
            self._say(connection, {"bye": True})

    def close(self) -> None:
        """Tells the hub at once that this rank ends: after SIGTERM it has five seconds for everything."""
        self._closing.set()
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RD)
        self.join(_PAUSE_S)

    def _say(self, connection: socket.socket, message: dict[str, Any]) -> None:
        with suppress(OSError):  # its silence is noticed
            connection.sendall(json.dumps(message).encode() + b"\n")

    def _messages(self, connection: socket.socket) -> Iterator[dict[str, Any]]:
        """Yields what the hub says within a second."""
        end_s = time.monotonic() + _SECONDS_BETWEEN_SIGNS
        while time.monotonic() < end_s and not self._closing.is_set():
            try:
                received = connection.recv(_MOST_BYTES)
            except TimeoutError:
                continue
            except OSError:
                received = b""
            if not received:
                self.trouble = self.trouble or f"rank 0 on {self._hub_name} ended"
                self._closing.wait(end_s - time.monotonic())
                return
            *lines, self._unread = (self._unread + received).split(b"\n")
            yield from map(json.loads, lines)

    def _obey(self, message: dict[str, Any]) -> None:
        if "trouble" in message:
            self.trouble = message["trouble"]
        if "reason" in message and self._rank > 0:
            end_now(None)
        if "bye" in message:
            self._closing.set()

    def _require_hub(self, silent_s: float) -> None:
        """Ends this rank if rank 0, which should, no longer can."""
        more_s = _SECONDS_MORE_FOR_OTHERS * min(self._rank, 2)
        if self._rank > 0 and silent_s > self._timeout_s + more_s:
            speaks = self._rank == 1
            end_now(
                judge.no_sign(f"rank 0 on {self._hub_name}", silent_s, self._timeout_s) if speaks else None
            )
