"""Files that the tasks of a job write themselves, safe under retries and speculative execution.

Each attempt of a task writes under a name of its own and returns a report that names its file. Spark hands
the driver one report per task, that of an attempt which succeeded, however often the task ran. The driver
gives the files that reports name their final names; what other attempts left is deleted or never looked at.
"""

from collections.abc import Collection

from esmm_spark.files import storage


def attempt_name(task: int, attempt: int) -> str:
    """Returns what an attempt calls its file: `part-00003.17.parquet` of task 3, attempt 17."""
    return f"part-{task:05d}.{attempt}.parquet"


def committed_name(path: str) -> str:
    """Returns the final name of an attempt's file: `part-00003.parquet` of `part-00003.17.parquet`."""
    stem, attempt, suffix = path.rsplit(".", 2)
    assert attempt.isdigit(), path
    return f"{stem}.{suffix}"


def keep_attempt(source: str, path: str, target: str) -> str:
    """Moves the file `path` of an attempt from folder `source` to `target` under its final name, returned."""
    committed = committed_name(path)
    storage.move(storage.join(source, path), storage.join(target, committed))
    return committed


def delete_others(folder: str, kept: Collection[str], prefix: str = "") -> None:
    """Deletes the files of a folder whose names begin with `prefix` and aren't `kept`: of other attempts."""
    for name, _ in storage.list_files(folder):
        if name.startswith(prefix) and name not in kept:
            storage.delete(storage.join(folder, name))
