"""Who may write a target: one run at a time, and a dead run keeps nobody out."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow import fs

from esmm_spark.contracts.errors import LeaseLostError, TargetBusyError
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import filesystems
from esmm_spark.files import holder as holders
from esmm_spark.files import lease as leases
from esmm_spark.files.lease import STALE_S, acquire, leased
from tests.files.object_store import ObjectStore
from tests.repository import ROOT

WHAT = "paths.dataset data/x"


@pytest.fixture
def lease_file(tmp_path: Path) -> Path:
    return tmp_path / ".x.lease"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An object store under mem://."""
    objects = ObjectStore()
    filesystem = fs.PyFileSystem(objects)
    monkeypatch.setattr(filesystems, "filesystem_of", lambda uri: (filesystem, uri.removeprefix("mem://")))
    monkeypatch.setattr(leases, "_OBJECTS_PATIENCE_S", 0.3)
    return objects


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def leave_lease(file: Path, pid: int, machine: str | None = None, age_s: float = 0.0) -> None:
    """Writes the lease of another process, as it would have done `age_s` seconds ago."""
    found = holders.this_process("other").model_copy(update={"pid": pid, "host": "host7", "user": "ada"})
    start = holders._process_start(pid) or 1
    found = found.model_copy(update={"process_start": start, "machine": machine or found.machine})
    file.write_text(found.model_dump_json())
    os.utime(file, (time.time() - age_s,) * 2)


def test_a_second_run_is_told_who_writes_where_since_when_and_what_to_do(lease_file: Path) -> None:
    with leased(str(lease_file), WHAT) as lease:
        with pytest.raises(TargetBusyError) as refused, leased(str(lease_file), WHAT):
            pass
        lease.require_held()
    message = str(refused.value)
    assert message.startswith(f"{WHAT} is being written by process {os.getpid()} of ")
    assert lease.holder.host in message
    assert f"since {lease.holder.since} UTC: wait for its end or stop it" in message
    assert refused.value.exit_code == 2
    assert not lease_file.exists()


def test_a_run_that_ends_by_any_exception_leaves_no_lease(lease_file: Path) -> None:
    with pytest.raises(KeyboardInterrupt), leased(str(lease_file), WHAT):
        raise KeyboardInterrupt
    assert list(lease_file.parent.iterdir()) == []


def test_a_live_process_keeps_its_lease_however_long_it_gave_no_sign(
    lease_file: Path, other_process: subprocess.Popen[bytes]
) -> None:
    leave_lease(lease_file, other_process.pid, age_s=10 * STALE_S)
    with pytest.raises(TargetBusyError, match=f"process {other_process.pid} of ada on host7"):
        acquire(str(lease_file), WHAT)


def test_a_dead_process_keeps_nobody_out(lease_file: Path, other_process: subprocess.Popen[bytes]) -> None:
    leave_lease(lease_file, other_process.pid)
    other_process.kill()
    other_process.wait()
    with leased(str(lease_file), WHAT) as lease:
        assert json.loads(lease_file.read_text())["token"] == lease.run
    assert list(lease_file.parent.iterdir()) == []


def test_a_process_that_was_given_a_dead_ones_number_is_not_taken_for_it(
    lease_file: Path, other_process: subprocess.Popen[bytes]
) -> None:
    leave_lease(lease_file, other_process.pid)
    found = json.loads(lease_file.read_text())
    lease_file.write_text(json.dumps({**found, "process_start": found["process_start"] - 1}))
    with leased(str(lease_file), WHAT):
        pass


@pytest.mark.parametrize("age_s", [0.0, STALE_S - 30])
def test_a_run_on_another_host_counts_as_alive_while_it_gives_signs(lease_file: Path, age_s: float) -> None:
    leave_lease(lease_file, 1, machine="elsewhere", age_s=age_s)
    with pytest.raises(TargetBusyError, match=r"last gave a sign of life \d+ s ago; if its host is gone"):
        acquire(str(lease_file), WHAT)


def test_a_run_on_another_host_that_gave_no_sign_for_long_counts_as_dead(lease_file: Path) -> None:
    leave_lease(lease_file, 1, machine="elsewhere", age_s=STALE_S + 30)
    with leased(str(lease_file), WHAT):
        pass


@pytest.mark.slow
def test_a_lease_that_was_cut_off_while_it_was_written_ends_like_that_of_another_host(
    lease_file: Path,
) -> None:
    lease_file.touch()
    with pytest.raises(TargetBusyError, match="by a run that doesn't say who it is"):
        acquire(str(lease_file), WHAT)
    os.utime(lease_file, (0, 0))
    with leased(str(lease_file), WHAT):
        pass


def test_a_run_whose_lease_was_taken_over_while_it_was_suspended_must_not_publish(lease_file: Path) -> None:
    with leased(str(lease_file), WHAT) as suspended:
        leave_lease(lease_file, 1, machine="elsewhere")
        with pytest.raises(LeaseLostError, match=r"taken over by process 1 of ada on host7 .* nothing"):
            suspended.require_held()
    # Nor does its end give the other's lease away.
    assert json.loads(lease_file.read_text())["host"] == "host7"
    lease_file.unlink()
    with leased(str(lease_file), WHAT) as suspended:
        lease_file.unlink()
        with pytest.raises(LeaseLostError, match="by another run, or deleted"):
            suspended.require_held()


def test_a_lease_is_kept_young_by_its_holder(lease_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.02)
    with leased(str(lease_file), WHAT):
        os.utime(lease_file, (0, 0))
        deadline = time.monotonic() + 30
        while lease_file.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_run_waits_for_another_where_it_is_told_to(lease_file: Path) -> None:
    first = acquire(str(lease_file), WHAT)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(acquire, str(lease_file), WHAT, 30.0)
        time.sleep(0.2)
        assert not second.done()
        first.release()
        second.result().release()


def test_of_many_that_find_a_dead_runs_lease_one_takes_it(lease_file: Path) -> None:
    for _ in range(20):
        leave_lease(lease_file, 1, machine="elsewhere", age_s=STALE_S + 30)

        def attempt(_: int) -> leases.Lease | None:
            try:
                return acquire(str(lease_file), WHAT)
            except TargetBusyError:
                return None

        with ThreadPoolExecutor(8) as pool:
            taken = [lease for lease in pool.map(attempt, range(8)) if lease is not None]
        held = []
        for lease in taken:
            try:
                lease.require_held()
                held.append(lease)
            except LeaseLostError:
                pass
        assert len(held) == 1
        for lease in taken:
            lease.release()
    assert list(lease_file.parent.iterdir()) == []


@pytest.mark.parametrize("step", ["write", "link"])
def test_a_run_that_takes_over_keeps_its_lease_when_another_breaks_the_dead_one_meanwhile(
    lease_file: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    leave_lease(lease_file, 1, machine="elsewhere", age_s=STALE_S + 30)
    dead = leases._read(str(lease_file))
    assert dead is not None
    do = getattr(os, step)
    steps: list[str] = []

    def do_while_another_breaks(*arguments: object) -> object:
        """Takes the step and then lets the other run go on that found the dead lease, too."""
        if steps:
            return do(*arguments)
        steps.append(step)
        if step == "link":
            do(*arguments)
        leases._break(str(lease_file), dead, "other")
        return None if step == "link" else do(*arguments)

    monkeypatch.setattr(os, step, do_while_another_breaks)
    with leased(str(lease_file), WHAT) as lease:
        lease.require_held()
    assert steps == [step]
    assert list(lease_file.parent.iterdir()) == []


def test_a_file_system_without_hard_links_has_leases_too(
    lease_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with leased(str(lease_file), WHAT) as lease:
        lease.require_held()
        with pytest.raises(TargetBusyError):
            acquire(str(lease_file), WHAT)
    assert list(lease_file.parent.iterdir()) == []


def test_credentials_in_a_command_are_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["/opt/preprocess.py", "paths.dataset=s3a://key:secret@bucket/x?token=abc", "--ds"]
    )
    assert holders.this_process("t").command == ("preprocess.py paths.dataset=s3a://***@bucket/x?*** --ds")


def test_in_an_object_store_a_second_run_is_refused_and_leaves_the_first_its_lease(
    store: ObjectStore,
) -> None:
    with leased("mem://bucket/.x.lease", WHAT) as first:
        with pytest.raises(TargetBusyError, match=f"process {os.getpid()} of"):
            acquire("mem://bucket/.x.lease", WHAT)
        first.require_held()
    with leased("mem://bucket/.x.lease", WHAT):
        pass
    assert [name for name in store.objects if not name.endswith("/")] == []


def test_in_an_object_store_the_claim_of_a_dead_run_is_removed(store: ObjectStore) -> None:
    dead = holders.this_process("0-dead").model_copy(update={"process_start": 1})
    store.objects["bucket/.x.lease/0-dead"] = dead.model_dump_json().encode()
    with leased("mem://bucket/.x.lease", WHAT):
        assert "bucket/.x.lease/0-dead" not in store.objects


@pytest.mark.slow
def test_in_an_object_store_at_most_one_of_many_holds_the_lease(store: ObjectStore) -> None:
    def attempt(_: int) -> leases.Lease | None:
        try:
            return acquire("mem://bucket/.x.lease", WHAT)
        except TargetBusyError:
            return None

    num_held = 0
    for _ in range(10):
        with ThreadPoolExecutor(4) as pool:
            taken = [lease for lease in pool.map(attempt, range(4)) if lease is not None]
        assert len(taken) <= 1
        num_held += len(taken)
        for lease in taken:
            lease.release()
    assert num_held > 0


WRITER = """
import sys, time
from esmm_spark.files import storage
from esmm_spark.commands.command import run_command
from esmm_spark.files.replacing import replacing
def write(argv):
    target, content = argv
    with replacing(target, "paths.report", ("*",)) as new:
        for number in range(20):
            storage.write_text(storage.join(new.folder, f"{number}"), content)
            time.sleep(0.01)
        new.files = [str(number) for number in range(20)]
run_command(write)
"""


@pytest.mark.slow
def test_of_two_processes_that_write_one_folder_one_replaces_it_and_one_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "report"
    command = [sys.executable, "-c", WRITER, str(target)]
    both = [
        subprocess.Popen([*command, content], cwd=ROOT, stderr=subprocess.PIPE, text=True) for content in "ab"
    ]
    ends = [(process.communicate()[1], process.returncode) for process in both]
    codes = sorted(code for _, code in ends)
    content = {path.read_text() for path in target.iterdir() if path.name != MARKER}
    assert len(content) == 1
    assert len(list(target.iterdir())) == 21
    if codes == [0, 0]:
        # One was over when the other one began.
        return
    assert codes == [0, 2]
    (error,) = [error for error, code in ends if code]
    assert error.count("\n") == 1
    assert error.startswith(f"error: paths.report {target} is being written by process ")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
