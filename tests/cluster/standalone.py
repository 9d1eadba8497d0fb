"""A standalone Spark cluster on the loopback interface: a master and workers, each a process of its own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import pyspark

from tests.repository import ROOT

SPARK_HOME = Path(pyspark.__file__).parent
# A worker that is silent for so long is gone, in seconds. Master and workers must agree on it: a worker says
# that it is alive four times in it.
WORKER_TIMEOUT_S = 20
NUM_WORKERS = 2
MASTER = "127.0.0.1"
# Of a job on a machine that has much else to do; one that is its own takes a tenth.
MOST_SECONDS = 400

# Of each Java: its optimizing compiler takes longer than what these run.
_SHORT_LIVED = "-XX:TieredStopAtLevel=1"

Job = subprocess.Popen[str]

# Runs a command for which Spark's folder lies elsewhere, too, and another folder is empty.
_HIDE = 'mount --bind "$1" "$2" && mount -t tmpfs none "$3" && shift 3 && exec "$@"'


def cannot_hide() -> str | None:
    """Returns why nothing can be hidden from a worker here, or None if it can."""
    if shutil.which("unshare") is None:
        return "there is no unshare: apt-get install util-linux"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    return f"no mount namespace can be made: {tried.stderr.strip()}" if tried.returncode else None


class Standalone:
    """A master and two workers of one core each, every one on a host of its own, as Spark sees it.

    Spark starts no speculative attempt on the host that the first one runs on.

    Attributes:
        workers: the processes of the workers.
        work_folders: of each worker, where its executors work.
    """

    def __init__(self, folder: Path, hidden: Path | None = None) -> None:
        """Starts all of them; logs and the executors' folders lie below `folder`.

        The folder `hidden` is empty for workers and executors.
        """
        self._folder, self._hidden = folder, hidden
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.work_folders: list[Path] = []
        port, self._ui_port = free_port(), free_port()
        self.url = f"spark://{MASTER}:{port}"
        self._start("master", MASTER, "Master", "--port", str(port), "--webui-port", str(self._ui_port))
        try:
            wait_until(lambda: self._num_alive() == 0, "the master answers")
            for number in range(NUM_WORKERS):
                self._start_worker(number)
            wait_until(lambda: self._num_alive() == NUM_WORKERS, "the workers register with the master")
        except BaseException:
            self.close()
            raise

    def _start_worker(self, number: int) -> None:
        name, address = f"worker-{number}", f"127.0.0.{2 + number}"
        own = ("--port", str(free_port()), "--webui-port", str(free_port()))
        self.work_folders.append(self._folder / name)
        size = ("--cores", "1", "--memory", "2g", "--work-dir", str(self.work_folders[-1]))
        self.workers.append(self._start(name, address, "Worker", *own, *size, self.url))

    def _start(self, name: str, address: str, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self._folder / f"{name}.log"
        home, hiding = SPARK_HOME, list[str]()
        if kind == "Worker" and self._hidden is not None:
            home = self._folder / f"{name}-spark"
            home.mkdir()
            paths = map(str, (SPARK_HOME, home, self._hidden))
            hiding = ["unshare", "--mount", "sh", "-c", _HIDE, "sh", *paths]
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind.lower()}.{kind}"]
        with log.open("wb") as file:
            daemon = subprocess.Popen(
                [*hiding, *command, "--host", address, *arguments],
                env={**environment(), "SPARK_LOCAL_IP": address, "SPARK_HOME": str(home)},
                cwd=self._folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._daemons.append(daemon)
        return daemon

    def _num_alive(self) -> int | None:
        """Returns how many workers the master knows, or None if it doesn't answer yet."""
        for daemon in self._daemons:
            assert daemon.poll() is None, self.told()
        try:
            with urllib.request.urlopen(f"http://{MASTER}:{self._ui_port}/json/", timeout=10) as answer:
                workers: int = json.load(answer)["aliveworkers"]
        except (OSError, json.JSONDecodeError):  # at first another page answers for this one
            return None
        return workers

    def told(self) -> str:
        """Returns the logs of the master and the workers."""
        return "\n".join(log.read_text() for log in sorted(self._folder.glob("*.log")))

    def start(
        self,
        job: str,
        *arguments: str,
        options: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Job:
        """Starts `jobs/<job>.py` by spark-submit; its executors are this cluster's.

        `options` are Spark's settings, `variables` the environment's.
        """
        settings = {"spark.driver.host": MASTER, "spark.ui.enabled": "false", **(options or {})}
        settings |= {f"spark.{of}.extraJavaOptions": _SHORT_LIVED for of in ("driver", "executor")}
        command = ["spark-submit", "--master", self.url, "--executor-memory", "1g", "--driver-memory", "1g"]
        command += [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
        return subprocess.Popen(
            [*command, str(ROOT / "jobs" / f"{job}.py"), *arguments],
            env={**environment(), **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, job: str, *arguments: str, options: Mapping[str, str] | None = None) -> str:
        """Runs a job to its end and returns what it printed."""
        return finish(self.start(job, *arguments, options=options))

    def executors(self) -> list[psutil.Process]:
        """Returns the processes of the executors at work, of any worker."""
        found = []
        for worker in self.workers:
            for process in psutil.Process(worker.pid).children() if worker.poll() is None else []:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "org.apache.spark.executor.CoarseGrainedExecutorBackend" in process.cmdline():
                        found.append(process)
        return found

    def close(self) -> None:
        """Ends all processes, the executors included."""
        for daemon in self._daemons:
            kill_session(daemon.pid)
            daemon.wait(30)


def environment() -> dict[str, str]:
    """Returns the environment of daemons and jobs: not that of local mode."""
    own = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SPARK_LOCAL_IP": MASTER,
        "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_DAEMON_JAVA_OPTS": f"-Dspark.worker.timeout={WORKER_TIMEOUT_S} {_SHORT_LIVED}",
        "PYSPARK_PYTHON": sys.executable,
    }
    for name in ("SPARK_CONF_DIR", "PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT"):
        own.pop(name, None)
    return own


def finish(job: Job) -> str:
    """Waits for the job's right end and returns what it printed."""
    try:
        output, errors = job.communicate(timeout=MOST_SECONDS)
    except BaseException:
        kill_session(job.pid)
        raise
    assert job.returncode == 0, errors
    return output


def kill_session(leader: int) -> None:
    """Kills all that is left of a process that was started in a session of its own."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_port() -> int:
    """Returns a port of the loopback interface on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(
    ready: Callable[[], bool], what: str, alive: Sequence[Job] = (), timeout_s: float = MOST_SECONDS
) -> None:
    """Waits until `ready`, or fails: after `timeout_s`, or once a process of `alive` has ended.

    What fails ends `alive`, whole sessions.
    """
    until = time.monotonic() + timeout_s
    try:
        while not ready():
            for process in alive:
                assert process.poll() is None, (f"it ended before {what}", process.communicate())
            assert time.monotonic() < until, f"after {timeout_s} s not yet: {what}"
            time.sleep(0.01)
    except BaseException:
        for process in alive:
            kill_session(process.pid)
        raise
