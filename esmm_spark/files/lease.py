"""Leases: one run at a time writes a target.

A lease is a small file beside what it guards that says who holds it (`holder.Holder`). It is made in one
atomic step that fails where there is one, and deleted when its run ends. A run that died can't delete it: on
its own machine others see that its process is gone, elsewhere that its file was not touched for `STALE_S`,
by the clock of the file system alone. Then they take it over. So a run that was suspended for longer finds
its lease taken (`Lease.require_held`), and must not publish.

Object stores have no such step: there a run writes an object of its own and holds the lease if it then sees
no other's; of several at once, the one with the least name stays. docs/decisions/015-leases.md says why.
"""

import os
import posixpath
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pyarrow import fs
from pydantic import ValidationError

from esmm_spark.contracts.errors import LeaseLostError, TargetBusyError
from esmm_spark.files import filesystems, moving, storage
from esmm_spark.files.holder import Holder, lives, this_process

# A holder touches its lease this often; one that wasn't touched for STALE_S is a dead run's.
RENEW_S = 20.0
STALE_S = 180.0
_PAUSE_S = 0.1
_WRITING_S = 2.0
# Where claims are objects: how long the one that may stay waits for the others to go.
_OBJECTS_PATIENCE_S = 5.0


@dataclass
class Lease:
    """A lease that this process holds.

    Attributes:
        uri: the file that says so.
        what: the target, for messages ("paths.dataset data/x").
        holder: this process. Its token names the run.
    """

    uri: str
    what: str
    holder: Holder
    _ended: threading.Event = field(default_factory=threading.Event)
    # Where a file can only be touched by writing it again, it is empty for a moment.
    _file_at_rest: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None

    @property
    def run(self) -> str:
        """The name of this run, no other's."""
        return self.holder.token

    def require_held(self) -> None:
        """Raises LeaseLostError unless this process still holds the lease."""
        with self._file_at_rest:
            found = _read(self.uri)
        if found is None or found.holder != self.holder:
            by = f"by {found.holder}" if found and found.holder else "by another run, or deleted"
            raise LeaseLostError(
                f"the lease {self.uri} on {self.what} was taken over {by}: this run was suspended or cut off "
                f"for more than {STALE_S:.0f} s. It stops and replaces nothing: start it again when no other "
                "run writes there"
            )

    def _renew_until_released(self) -> None:
        while not self._ended.wait(RENEW_S):
            # A file system that doesn't answer now may answer next time; `require_held` decides.
            with suppress(OSError), self._file_at_rest:
                _touch(self.uri, self.holder)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Ends the lease, if it is still held."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):
            found = _read(self.uri)
            if found is not None and found.holder == self.holder:
                storage.delete(self.uri)


@contextmanager
def leased(uri: str, what: str, wait_s: float = 0.0) -> Iterator[Lease]:
    """Yields a lease that this process holds until the context ends.

    Args:
        uri: the lease's file; its folder is made. In an object store, the folder of the claims.
        what: the target that it guards, for messages.
        wait_s: how long to wait for another run to end.

    Raises:
        TargetBusyError: another run holds it.
        OSError: the file system refuses.
    """
    lease = acquire(uri, what, wait_s)
    try:
        yield lease
    finally:
        lease.release()


def acquire(uri: str, what: str, wait_s: float = 0.0) -> Lease:
    """Returns a lease that is held until `Lease.release`, as `leased` does."""
    # Names sort by when they were made, more or less.
    holder = this_process(f"{time.time_ns():x}-{secrets.token_hex(4)}")
    storage.make_directory(posixpath.dirname(uri))
    if moving.can_rename(filesystems.filesystem_of(uri)[0]):
        lease = _acquire_file(uri, what, holder, wait_s)
    else:
        lease = _acquire_object(uri, what, holder, max(wait_s, _OBJECTS_PATIENCE_S))
    lease._start()
    return lease


@dataclass(frozen=True)
class _Found:
    """A lease's file as it was read; `holder` is None where its content isn't whole."""

    content: bytes
    holder: Holder | None
    age_s: float


def _acquire_file(uri: str, what: str, holder: Holder, wait_s: float) -> Lease:
    """Acquires a lease that is one file. Raises TargetBusyError."""
    filesystem, path = filesystems.filesystem_of(uri)
    start = time.monotonic()
    while not moving.create(filesystem, path, holder.model_dump_json().encode(), holder.token):
        found = _read(uri)
        if found is not None and (found.holder is None or lives(found.holder) is None):
            # Only its age tells.
            found = _read(uri, _now(uri, holder.token))
        if found is None:
            continue
        # A holder that has only just made its file may still be writing it.
        patience_s = wait_s if found.holder is not None else max(wait_s, _WRITING_S)
        if _is_dead(found):
            _break(uri, found, holder.token)
        elif time.monotonic() - start >= patience_s:
            raise _busy(what, uri, found)
        else:
            time.sleep(_PAUSE_S)
    return Lease(uri, what, holder)


def _acquire_object(uri: str, what: str, holder: Holder, wait_s: float) -> Lease:
    """Acquires a lease where each run's claim is an object of its own. Raises TargetBusyError.

    Whoever holds it saw no other claim after writing its own. So of two runs at least one sees the other's
    and goes; of several that see each other, the one with the least name waits for the others to do so.
    """
    own = storage.join(uri, holder.token)
    give_up = time.monotonic() + wait_s
    storage.write_bytes(own, holder.model_dump_json().encode())
    try:
        while others := _living_claims(uri, holder.token):
            if min(others) < holder.token or time.monotonic() >= give_up:
                raise _busy(what, uri, others[min(others)])
            time.sleep(_PAUSE_S)
    except BaseException:
        storage.delete(own)
        raise
    return Lease(own, what, holder)


def _living_claims(uri: str, token: str) -> dict[str, _Found]:
    """Returns the other runs' claims, by name; deletes those of dead runs."""
    living = {}
    own = storage.join(uri, token)
    for name, _ in storage.list_files(uri, recursive=False):
        if name == token or name.startswith("."):
            continue
        found = _read(storage.join(uri, name), _modified(own))
        if found is not None and _is_dead(found):
            # Another run may delete it, too.
            with suppress(FileNotFoundError):
                storage.delete(storage.join(uri, name))
        elif found is not None:
            living[name] = found
    return living


def _is_dead(found: _Found) -> bool:
    alive = lives(found.holder) if found.holder is not None else None
    return found.age_s > STALE_S if alive is None else not alive


def _busy(what: str, uri: str, found: _Found) -> TargetBusyError:
    who = str(found.holder) if found.holder is not None else "a run that doesn't say who it is"
    elsewhere = ""
    if found.holder is None or lives(found.holder) is None:
        elsewhere = (
            f". It last gave a sign of life {found.age_s:.0f} s ago; if its host is gone, its lease {uri} "
            f"ends {STALE_S:.0f} s after that"
        )
    return TargetBusyError(
        f"{what} is being written by {who}: wait for its end or stop it, and start this command again"
        f"{elsewhere}"
    )


def _read(uri: str, now_s: float | None = None) -> _Found | None:
    """Returns what stands at `uri`, None where nothing does; `now_s` by the file system's clock."""
    filesystem, path = filesystems.filesystem_of(uri)
    try:
        with filesystem.open_input_stream(path) as stream:
            content = stream.read()
    except FileNotFoundError:
        return None
    modified_s = _modified(uri)
    age_s = 0.0 if now_s is None or modified_s is None else max(0.0, now_s - modified_s)
    try:
        holder = Holder.model_validate_json(content)
    except ValidationError:
        holder = None
    return _Found(content, holder, age_s)


def _modified(uri: str) -> float | None:
    """Returns when the file at `uri` was last written, by the file system's clock; None where unknown."""
    filesystem, path = filesystems.filesystem_of(uri)
    nanoseconds = filesystem.get_file_info(path).mtime_ns
    return None if nanoseconds is None else nanoseconds / 1e9


def _now(uri: str, token: str) -> float | None:
    """Returns the time by the clock of the file system, which stamps the leases, too."""
    probe = f"{uri}.{token}.now"
    storage.write_bytes(probe, b"")
    try:
        return _modified(probe)
    finally:
        storage.delete(probe)


def _touch(uri: str, holder: Holder) -> None:
    """Refreshes the time of the lease at `uri`, if it is still this holder's."""
    found = _read(uri)
    if found is None or found.holder != holder:
        return
    filesystem, path = filesystems.filesystem_of(uri)
    if isinstance(filesystem, fs.LocalFileSystem):
        os.utime(path)
    else:
        with filesystem.open_output_stream(path) as stream:
            stream.write(found.content)


def _break(uri: str, found: _Found, token: str) -> None:
    """Deletes a dead run's lease: not that of a run that broke it first and stands in its place now."""
    filesystem, path = filesystems.filesystem_of(uri)
    broken = f"{uri}.{token}.broken"
    try:
        storage.move(uri, broken)
    except OSError:
        return
    taken = _read(broken)
    if taken is not None and taken.content != found.content:
        moving.create(filesystem, path, taken.content, token)
    storage.delete(broken)
