"""A real Grid Engine of one host for a test: on loopback, in a directory of its own, ended with the test."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flowlib.testing import wait_until as wait

from . import installing
from .real_slurm import free_ports

SLOTS = 4
PACKAGES = ("gridengine-master", "gridengine-exec", "gridengine-client", "tcc")
COMMANDS = ("sge_qmaster", "sge_execd", "qsub", "qstat", "qdel", "qacct", "qconf", "tcc", "setpriv")
_LIB = Path("/usr/lib/gridengine")
_SHARE = Path("/usr/share/gridengine/util")
_BIND = {"x86_64": 49, "aarch64": 200}
"""Number of the system call."""
_SHIM = """\
long syscall(long number, ...);
int bind(int fd, const void *address, unsigned length) {
    unsigned char copy[128];
    unsigned i;
    if (length > sizeof copy) return syscall(NUMBER, fd, address, length);
    for (i = 0; i < length; i++) copy[i] = ((const unsigned char *)address)[i];
    if (length >= 8 && *(unsigned short *)copy == 2 && *(unsigned *)(copy + 4) == 0) {
        copy[4] = 127;
        copy[7] = 1;
    }
    return syscall(NUMBER, fd, copy, length);
}
"""
"""The daemons listen on all addresses and have no option for it: here 0.0.0.0 becomes 127.0.0.1."""
_BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn true
spooling_method classic
spooling_lib libspoolc
spooling_params {common};{dir}/qmaster
binary_path {lib}
qmaster_spool_dir {dir}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
jvm_threads 0
"""
_CONFIGURATION = {
    "conf_version": "0", "execd_spool_dir": "{dir}/execd", "mailer": "/bin/true", "shell_start_mode": "unix_behavior",
    "login_shells": "bash,sh", "min_uid": "0", "min_gid": "0", "enforce_project": "false", "enforce_user": "auto",
    "load_report_time": "00:00:01", "max_unheard": "00:00:15", "reschedule_unknown": "00:00:00",
    "loglevel": "log_info", "qmaster_params": "ENABLE_FORCED_QDEL", "finished_jobs": "100",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:01 "
    "joblog=false sharelog=00:00:00",
    "gid_range": "65400-65500", "max_aj_instances": "2000", "max_aj_tasks": "75000", "max_u_jobs": "0",
    "max_jobs": "0", "auto_user_oticket": "0", "auto_user_fshare": "0", "auto_user_default_project": "none",
    "auto_user_delete_time": "86400", "delegated_file_staging": "false", "reprioritize": "0",
    "jsv_allowed_mod": "ac,h,i,e,o,j,M,N,p,w", "xterm": "/usr/bin/xterm",
    **{f"{kind}_{part}": "builtin" for kind in ("qlogin", "rlogin", "rsh") for part in ("command", "daemon")},
    **dict.fromkeys(
        ("load_sensor", "prolog", "epilog", "user_lists", "xuser_lists", "projects", "xprojects", "administrator_mail",
         "set_token_cmd", "pag_cmd", "token_extend_time", "shepherd_cmd", "execd_params", "jsv_url"), "none",
    ),
}  # fmt: skip
_HOST = {
    "hostname": "localhost", "load_scaling": "NONE", "complex_values": f"slots={SLOTS}",
    **dict.fromkeys(
        ("user_lists", "xuser_lists", "projects", "xprojects", "usage_scaling", "report_variables"), "NONE"
    ),
}  # fmt: skip
_PARALLEL = {
    "pe_name": "smp", "slots": "999", "user_lists": "NONE", "xuser_lists": "NONE", "start_proc_args": "NONE",
    "stop_proc_args": "NONE", "allocation_rule": "$pe_slots", "control_slaves": "TRUE", "job_is_first_task": "FALSE",
    "urgency_slots": "min", "accounting_summary": "FALSE", "qsort_args": "NONE",
}  # fmt: skip
_QUEUE = {
    "qname": "all.q", "hostlist": "localhost", "seq_no": "0", "nsuspend": "1", "suspend_interval": "00:05:00",
    "priority": "0", "min_cpu_interval": "00:05:00", "processors": "UNDEFINED", "qtype": "BATCH INTERACTIVE",
    "pe_list": "smp", "rerun": "FALSE", "slots": f"{SLOTS}", "tmpdir": "/tmp", "shell": "/bin/sh",
    "shell_start_mode": "unix_behavior", "notify": "00:00:60", "initial_state": "default",
    **dict.fromkeys(
        ("load_thresholds", "suspend_thresholds", "ckpt_list", "prolog", "epilog", "starter_method",
         "suspend_method", "resume_method", "terminate_method", "owner_list", "user_lists", "xuser_lists",
         "subordinate_list", "complex_values", "projects", "xprojects", "calendar"), "NONE",
    ),
    **{f"{kind}_{what}": "INFINITY" for kind in "sh"
       for what in ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")},
}  # fmt: skip
_SCHEDULER = {
    "schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1",
    "load_adjustment_decay_time": "0:0:0", "job_load_adjustments": "NONE",
}  # fmt: skip


def missing() -> str:
    """Why there can be no Grid Engine here; empty if there can, perhaps after ``install``."""
    if platform.machine() not in _BIND:
        return f"not tried on {platform.machine()}"
    return installing.why_not(COMMANDS)


class GridEngine:
    """The cluster; see ``running``.

    Attributes:
        directory: Where all of it is.
        master: The process of its qmaster.
        host: The process of its only host's daemon.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="flowlib-sge-", dir="/tmp"))
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._ports = free_ports(2)
        self.master: subprocess.Popen[bytes] | None = None
        self.host: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "SGE_ROOT": str(self.directory / "root"),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(self._ports[0]),
            "SGE_EXECD_PORT": str(self._ports[1]),
            "SGE_ARCH": "lx-amd64",
        }

    def start(self) -> None:
        """Start all of it, and wait for its host."""
        self._lay_out()
        self.start_master()
        self._configure()
        self.start_host()
        self._stack.callback(self._kill_jobs)
        wait(lambda: self._states() == [""], 60)

    def close(self) -> None:
        """End all of it and remove its directory."""
        self._stack.close()

    def start_master(self) -> None:
        """Start the qmaster, or start it again."""
        self.master = self._daemon("sge_qmaster")
        wait(lambda: self.command("qconf", "-sh") is not None, 60)

    def kill_master(self) -> None:
        """The qmaster crashes."""
        assert self.master is not None
        self.master.kill()
        self.master.wait(10)

    def start_host(self) -> None:
        """Start the daemon of the host, or start it again."""
        self.host = self._daemon("sge_execd")

    def kill_host(self) -> None:
        """The daemon of the host crashes; what it started goes on."""
        assert self.host is not None
        self.host.kill()
        self.host.wait(10)

    def command(self, *argv: str) -> str | None:
        """What a command prints; None if it fails."""
        done = subprocess.run(
            argv, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout if done.returncode == 0 else None

    def queue(self) -> list[str] | None:
        """Jobs that have not ended; None if nobody answers."""
        text = self.command("qstat")
        return None if text is None else [line.split()[0] for line in text.splitlines()[2:]]

    def _lay_out(self) -> None:
        """Make the files that the installer of a site would make by asking questions."""
        directory, root = self.directory, self.directory / "root"
        directory.chmod(0o755)
        common = root / "default" / "common"
        for made in (common, directory / "qmaster" / "job_scripts", directory / "execd"):
            made.mkdir(parents=True)
        for name in ("bin", "lib", "utilbin"):
            (root / name).mkdir()
            (root / name / "lx-amd64").symlink_to(_LIB)
        (root / "util").symlink_to(_SHARE)
        (common / "bootstrap").write_text(_BOOTSTRAP.format(common=common, dir=directory, lib=_LIB))
        (common / "act_qmaster").write_text("localhost\n")
        # Else it finds this host's own name for 127.0.0.1 and refuses to talk.
        names = dict.fromkeys((socket.gethostname(), socket.getfqdn()))
        (common / "host_aliases").write_text(f"localhost {' '.join(n for n in names if n != 'localhost')}\n")
        shim = directory / "bind.c"
        shim.write_text(_SHIM.replace("NUMBER", str(_BIND[platform.machine()])))
        subprocess.run(["tcc", "-shared", "-nostdlib", "-o", directory / "bind.so", shim], timeout=60, check=True)
        self._spool("spoolinit", "classic", "libspoolc", f"{common};{directory}/qmaster", "init")
        configuration = {name: value.format(dir=directory) for name, value in _CONFIGURATION.items()}
        self._spool("spooldefaults", "configuration", self._file("configuration", configuration))
        self._spool("spooldefaults", "complexes", str(_SHARE / "resources" / "centry"))
        self._spool("spooldefaults", "usersets", str(_SHARE / "resources" / "usersets"))
        self._spool("spooldefaults", "managers", "root")

    def _configure(self) -> None:
        """Tell the qmaster of its host and queue."""
        self._tell("-ah", "localhost")
        self._tell("-as", "localhost")
        self._tell("-Ae", self._file("host", _HOST))
        self._tell("-Ap", self._file("parallel", _PARALLEL))
        self._tell("-Aq", self._file("queue", _QUEUE))
        told = dict(line.split(None, 1) for line in (self.command("qconf", "-ssconf") or "").splitlines())
        self._tell("-Msconf", self._file("scheduler", {**told, **_SCHEDULER}))

    def _file(self, name: str, values: dict[str, str]) -> str:
        path = self.directory / f"{name}.conf"
        path.write_text("".join(f"{name} {value}\n" for name, value in values.items()))
        return str(path)

    def _tell(self, *argv: str) -> None:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            ["qconf", *argv], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (argv, done.stdout, done.stderr)

    def _spool(self, tool: str, *argv: str) -> None:
        environment = {**os.environ, **self.environment, "LD_LIBRARY_PATH": str(_LIB)}
        environment["PATH"] = f"{_LIB}:{environment['PATH']}"
        subprocess.run([_LIB / tool, *argv], env=environment, capture_output=True, timeout=60, check=True)

    def _states(self) -> list[str]:
        """State letters of the queue: none when it takes jobs."""
        lines = [line.split() for line in (self.command("qstat", "-f") or "").splitlines()]
        return ["".join(words[5:]) for words in lines if words and words[0].startswith("all.q@")]

    def _kill_jobs(self) -> None:
        """Jobs outlive the daemon that started them."""
        for directory in (self.directory / "execd").glob("*/active_jobs/*"):
            for name in ("pid", "job_pid"):  # the shepherd's, and the job's own
                with contextlib.suppress(ValueError, FileNotFoundError, ProcessLookupError):
                    os.killpg(int((directory / name).read_text()), signal.SIGKILL)

    def _daemon(self, name: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context(open(self.directory / f"{name}.console", "ab"))
        # In the foreground; and never left behind, should the tests be killed.
        environment = {**os.environ, **self.environment, "SGE_ND": "1", "LD_PRELOAD": f"{self.directory}/bind.so"}
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", _LIB / name], env=environment, cwd=self.directory,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        self._stack.callback(_kill, process)
        return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    """At once: a polite end takes the daemons seconds, and what they would save is removed."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(10)


@contextmanager
def running() -> Iterator[GridEngine]:
    """A Grid Engine, as long as it lasts; the test is skipped where none can be installed."""
    if why := installing.install(PACKAGES, COMMANDS):
        pytest.skip(f"no real Grid Engine: {why}")
    cluster = GridEngine()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
