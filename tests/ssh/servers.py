"""Real SSH servers for tests: each a private sshd on the loopback with its own keys, directory and port.

They run as whoever runs the tests and let only that account in, by a key of their own.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests import leaks

_PAUSE = threading.Event()  # never set: a bounded pause
_SFTP = "Subsystem sftp internal-sftp"
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def find_sshd() -> str | None:
    """The path of sshd; on a Debian machine where tests run as root it is installed if need be. None: there is none."""
    found = shutil.which("sshd", path=_PATH)
    if found is None and os.getuid() == 0 and shutil.which("apt-get"):
        deadline = time.monotonic() + 50  # a test and its set-up have a minute
        with open(Path(tempfile.gettempdir(), "flowlib-tests-apt.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "openssh-server", "openssh-client"]
            env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
            for command in (install, ["apt-get", "update", "-qq"], install):
                left = max(1.0, deadline - time.monotonic())
                try:
                    done = subprocess.run(command, env=env, capture_output=True, timeout=left, check=False)
                except subprocess.TimeoutExpired:
                    break
                found = shutil.which("sshd", path=_PATH)
                if done.returncode == 0 and found is not None:
                    break
    return found


def make_key(path: Path, passphrase: str = "") -> Path:
    """A new key pair; the path of the private one."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "flowlib-tests", "-f", str(path)]
    subprocess.run(command, check=True, timeout=30)
    return path


class Sshd:
    """One server.

    Args:
        directory: Its own.
        authorized: Public keys that it lets in, as a file.
        name: Of the pretended host: its sessions have it as ``PRETENDED_HOST``, and its own home directory.
        options: More lines for its configuration.
    """

    def __init__(self, directory: Path, authorized: Path, name: str, options: Sequence[str] = ()) -> None:
        self.directory = directory
        self.name = name
        self.home = directory / "home"
        self.home.mkdir(parents=True)
        self.key = make_key(directory / "hostkey")
        self.user = getpass.getuser()
        self.log = directory / "sshd.log"
        self._options = options
        self._authorized = authorized
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.start()

    @property
    def spec(self) -> str:
        """As a host of a provider."""
        return f"{self.user}@127.0.0.1:{self.port}"

    def known_hosts_line(self, key: Path | None = None) -> str:
        """Its line for a file of known hosts, with its own key or another one."""
        public = Path(f"{key or self.key}.pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n"

    def start(self) -> None:
        """Start it; returns when it listens."""
        config = self.directory / "sshd_config"
        environment = [f"FLOWLIB_TEST_MARK={leaks.MARK}", f"PRETENDED_HOST={self.name}", f"HOME={self.home}"]
        config.write_text(
            "\n".join(
                [
                    *self._options,
                    "ListenAddress 127.0.0.1",
                    f"Port {self.port}",
                    f"HostKey {self.key}",
                    "PidFile none",
                    f"AuthorizedKeysFile {self._authorized}",
                    "StrictModes no",  # the files are below a directory that everybody may enter
                    "UsePAM no",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "PermitRootLogin prohibit-password",
                    "SetEnv " + " ".join(environment),
                    *([] if any("Subsystem" in option for option in self._options) else [_SFTP]),
                    "MaxStartups 100",
                    "UseDNS no",
                    "PrintMotd no",
                    "LogLevel VERBOSE",
                ]
            )
            + "\n"
        )
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        sshd = find_sshd()
        assert sshd is not None
        # In a session of its own, so that the end of the test's process group is not its end.
        self._process = subprocess.Popen(
            [sshd, "-D", "-f", str(config), "-E", str(self.log)], stdin=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                assert self._process.poll() is None, self.log.read_text()
                _PAUSE.wait(0.02)

    def stop(self) -> None:
        """End the server and all connections; what was started through them stays."""
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGSTOP)  # so that it takes no new connections meanwhile
            for child in self._sessions():
                child.kill()
            process.kill()
            process.wait(10)
            self._process = None

    def cut(self) -> None:
        """End all connections; new ones are taken."""
        for child in self._sessions():
            child.kill()

    def _sessions(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        try:
            below = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child for child in below if _name(child).startswith("sshd")]

    def processes(self) -> list[psutil.Process]:
        """What was started through this server and lives, wherever it hangs."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PRETENDED_HOST") == self.name and not _name(process).startswith("sshd"):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def running(self, text: str) -> list[psutil.Process]:
        """Those of ``processes`` with that text in their command line."""
        found = []
        for process in self.processes():
            try:
                if text in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def crash(self) -> None:
        """The whole host goes: server, connections and all that was started there."""
        self.stop()
        # More than once: what was just being started is not seen the first time.
        while found := self.processes():
            for process in found:
                try:
                    process.send_signal(signal.SIGKILL)
                except psutil.NoSuchProcess:
                    continue
            _PAUSE.wait(0.05)

    def until_empty(self, seconds: float) -> list[psutil.Process]:
        """Wait until nothing that was started there lives; what does after all."""
        deadline = time.monotonic() + seconds
        while (found := self.processes()) and time.monotonic() < deadline:
            _PAUSE.wait(0.1)
        return found


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""
