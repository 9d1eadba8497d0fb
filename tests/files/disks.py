"""Disks that are full or can't be written to, for real where this process may mount them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest


class NotMountableError(Exception):
    """Nothing can be mounted here."""


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mounts a disk of that size at `folder`; skips the test where that isn't allowed."""
    with _mounted_or_skipped(folder, f"size={kilobytes}k"):
        yield folder


@contextmanager
def read_only_folder(folder: Path) -> Iterator[Path]:
    """Makes `folder` one in which nothing can be written, whoever this process is."""
    if os.getuid() == 0:
        # No permission binds root, but a file system that is read-only does.
        with _mounted_or_skipped(folder, "ro,size=4k"):
            yield folder
        return
    folder.mkdir(exist_ok=True)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mounts a file system in memory at `folder`, which is made. Raises NotMountableError."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NotMountableError(str(error)) from error
    if done.returncode != 0:
        raise NotMountableError(done.stderr.strip())
    try:
        yield
    finally:
        # Lazily: a process that ends may still have a file open there.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def _mounted_or_skipped(folder: Path, options: str) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(mounted(folder, options))
        except NotMountableError as error:
            pytest.skip(f"nothing can be mounted here: {error}")
        yield
