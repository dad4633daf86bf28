"""A real Slurm of four pretend nodes for a test: on loopback, in a directory of its own, ended with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from flowlib.testing import wait_until as wait

from . import installing

NODES = 4
_CONF = """\
ClusterName=flowlibtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool-%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
KillWait=2
MinJobAge=120
MessageTimeout=10
SlurmdTimeout=10
SlurmctldTimeout=10
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=debug Nodes=n[1-{count}] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=short Nodes=n[1-{count}] MaxTime=2 State=UP
"""


PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "setpriv")


def missing() -> str:
    """Why there can be no Slurm here; empty if there can, perhaps after ``install``."""
    return installing.why_not(COMMANDS)


def install() -> None:
    """Install it unless it is there; skip the test if that fails."""
    if why := installing.install(PACKAGES, COMMANDS):
        pytest.skip(f"no real Slurm: {why}")


class Slurm:
    """The cluster; see ``running``.

    Attributes:
        directory: Where all of it is.
        controller: The controller's process.
    """

    def __init__(self) -> None:
        # Not below pytest's directory: a socket's path must be short.
        self.directory = Path(tempfile.mkdtemp(prefix="flowlib-slurm-", dir="/tmp"))
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._stack.callback(self._end_steps)
        self.controller: subprocess.Popen[bytes] | None = None
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {"SLURM_CONF": str(self.directory / "slurm.conf")}

    def start(self) -> None:
        """Start all of it, and wait for its nodes."""
        directory = self.directory
        directory.chmod(0o755)
        ports = free_ports(NODES + 1)
        for name in ("state", *(f"spool-n{n}" for n in range(1, NODES + 1))):
            (directory / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[n]} CPUs=2 State=UNKNOWN"
            for n in range(1, NODES + 1)
        )
        text = _CONF.format(host=host, port=ports[0], dir=directory, nodes=nodes, count=NODES)
        (directory / "slurm.conf").write_text(text)
        key = directory / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={directory}/munge.socket",
            f"--pid-file={directory}/munged.pid", f"--log-file={directory}/munged.log",
            f"--seed-file={directory}/munged.seed",
        )  # fmt: skip
        wait(lambda: (directory / "munge.socket").exists())
        self.start_controller()
        for n in range(1, NODES + 1):
            self.start_node(f"n{n}")
        wait(
            lambda: (self.command("sinfo", "-h", "-t", "idle", "-p", "debug", "-o", "%D") or "").strip() == str(NODES),
            60,
        )

    def close(self) -> None:
        """End all of it and remove its directory."""
        self._stack.close()

    def start_controller(self) -> None:
        """Start the controller, or start it again."""
        self.controller = self._daemon("slurmctld", "-D")

    def kill_controller(self) -> None:
        """The controller crashes."""
        assert self.controller is not None
        self.controller.kill()
        self.controller.wait(10)

    def start_node(self, node: str) -> None:
        """Start a node's daemon, or start it again."""
        self._nodes[node] = self._daemon("slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """A node's daemon crashes; what it started goes on."""
        self._nodes[node].kill()
        self._nodes[node].wait(10)

    def command(self, *argv: str) -> str | None:
        """What a command prints; None if it fails."""
        done = subprocess.run(
            argv, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout if done.returncode == 0 else None

    def queue(self) -> list[str] | None:
        """Jobs that have not ended; None if nobody answers."""
        text = self.command("squeue", "-h", "-o", "%i")
        return None if text is None else text.split()

    def _end_steps(self) -> None:
        """What a node's daemon started outlives it, and tries for ever to tell the controller of its end."""
        mine = f"SLURM_CONF={self.directory}/slurm.conf".encode()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.name() != "slurmstepd" or process.ppid() != 1:
                    continue
                # Not by psutil, which reads to the first gap: the title of such a process covers part of this.
                if mine in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    for one in [*process.children(recursive=True), process]:
                        one.kill()

    def _daemon(self, *argv: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context(open(self.directory / f"{argv[0]}.console", "ab"))
        # Never left behind, should the tests be killed.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        self._stack.callback(end, process)
        return process


@contextmanager
def running() -> Iterator[Slurm]:
    """A Slurm, as long as it lasts; the test is skipped where none can be installed."""
    install()
    slurm = Slurm()
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a daemon, be it stopped."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
