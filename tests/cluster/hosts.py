"""Hosts made of network namespaces on one bridge, each with a name, an address and an sshd of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

SSHD = Path("/usr/sbin/sshd")
# `ip netns exec` mounts what lies here in a namespace's folder over /etc.
NETNS = Path("/etc/netns")
INTERFACE = "eth0"
_SSH_CONFIG = """
IdentityFile /etc/ssh/id
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
"""
_SSHD_CONFIG = """
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/id.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PidFile none
"""


def missing() -> str | None:
    """Returns why no hosts can be made here, or None if they can."""
    if os.geteuid() != 0:
        return "network namespaces are root's to make"
    for name in ("ip", "unshare", "ssh", "ssh-keygen"):
        if shutil.which(name) is None:
            return f"there is no {name}: apt-get install iproute2 openssh-server"
    if not SSHD.exists():
        return f"there is no {SSHD}: apt-get install openssh-server"
    probe = f"esmm{os.getpid()}-probe"
    # All that Hosts asks of the kernel; a container may allow some of it.
    asked = [
        ["ip", "netns", "add", probe],
        ["ip", "-n", probe, "link", "add", "bridge", "type", "bridge"],
        ["ip", "-n", probe, "link", "add", INTERFACE, "type", "veth", "peer", "name", "port"],
        ["ip", "netns", "exec", probe, "unshare", "--uts", "hostname", "probe"],
    ]
    try:
        for command in asked:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                return f"no hosts can be made: {' '.join(command)}: {done.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "delete", probe], capture_output=True)
    return None


def ip(*arguments: str) -> str:
    """Runs `ip` and returns what it printed."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


class Hosts:
    """Hosts h1, h2, ... that reach each other by name and by ssh, and nothing else.

    Attributes:
        names: their names.
    """

    def __init__(self, num_hosts: int) -> None:
        """Makes them."""
        self.names = [f"h{number}" for number in range(1, num_hosts + 1)]
        self._switch = self._namespace("switch")
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        Path("/run/sshd").mkdir(exist_ok=True)
        try:
            ip("netns", "add", self._switch)
            ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", self._switch, "link", "set", "bridge", "up")
            for number, name in enumerate(self.names, 1):
                self._add(name, number)
                self.serve(name)
        except BaseException:
            self.close()
            raise

    def _namespace(self, name: str) -> str:
        # More than one run of the tests may be under way.
        return f"esmm{os.getpid()}-{name}"

    def _add(self, name: str, number: int) -> None:
        namespace, port = self._namespace(name), f"port{number}"
        ip("netns", "add", namespace)
        ends = ("type", "veth", "peer", "name", port, "netns", self._switch)
        ip("link", "add", INTERFACE, "netns", namespace, *ends)
        ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
        ip("-n", namespace, "address", "add", f"10.77.0.{number}/24", "dev", INTERFACE)
        for interface in ("lo", INTERFACE):
            ip("-n", namespace, "link", "set", interface, "up")
        own, first = NETNS / namespace, NETNS / self._namespace(self.names[0])
        (own / "ssh").mkdir(parents=True)
        names = [f"10.77.0.{other} h{other}" for other in range(1, len(self.names) + 1)]
        (own / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
        (own / "ssh" / "ssh_config").write_text(_SSH_CONFIG)
        (own / "ssh" / "sshd_config").write_text(_SSHD_CONFIG)
        self._make_key(own / "ssh" / "host_key")
        if own == first:
            self._make_key(own / "ssh" / "id")
        else:
            for key in ("id", "id.pub"):
                shutil.copy(first / "ssh" / key, own / "ssh" / key)

    @staticmethod
    def _make_key(path: Path) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        """Returns the command that runs `command` on a host."""
        on_host = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name, *command]
        return ["ip", "netns", "exec", self._namespace(name), *on_host]

    def serve(self, name: str) -> None:
        """Starts the host's sshd."""
        command = self.command(name, [str(SSHD), "-D"])
        self._daemons[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def set_link(self, name: str, state: str) -> None:
        """Sets the host's link `up` or `down`."""
        ip("-n", self._namespace(name), "link", "set", INTERFACE, state)

    def crash(self, name: str) -> None:
        """Ends all that runs on the host and takes it off the network, as when its power fails."""
        self.set_link(name, "down")
        for process in self.processes(name):
            process.kill()
        self._daemons[name].wait(10)

    def come_back(self, name: str) -> None:
        """Starts a host that crashed."""
        self.set_link(name, "up")
        self.serve(name)

    def processes(self, name: str) -> list[psutil.Process]:
        """Returns all processes of the host, its sshd's included."""
        pids = [int(pid) for pid in ip("netns", "pids", self._namespace(name)).split()]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def ranks(self, name: str) -> list[psutil.Process]:
        """Returns the processes of ranks at work on the host."""
        found = []
        for process in self.processes(name):
            try:
                words, variables = process.cmdline(), process.environ()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if words[:1] == [sys.executable] and "HOROVOD_RANK" in variables:
                found.append(process)
        return found

    def close(self) -> None:
        """Ends all processes of the hosts and removes them."""
        for name in [*self.names, "switch"]:
            namespace = self._namespace(name)
            if not Path("/run/netns", namespace).exists():
                continue
            for process in self.processes(name):
                process.kill()
            if name in self._daemons:
                self._daemons[name].wait(10)
            ip("netns", "delete", namespace)
            shutil.rmtree(NETNS / namespace, ignore_errors=True)
