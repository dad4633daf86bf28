"""Commands, files and the way home on a login node that is a real SSH server."""

from __future__ import annotations

import shlex
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib import HighThroughputExecutor
from flowlib.errors import HostUnusable
from flowlib.ssh import SSHTransport
from flowlib.testing import FakeScheduler
from tests.ssh.servers import Sshd


@pytest.fixture
def login(start: Callable[..., Sshd]) -> Sshd:
    """A login node."""
    return start("login")


@pytest.fixture
def transport(login: Sshd, tmp_path: Path, key: Path) -> Iterator[SSHTransport]:
    """A transport to it."""
    made = SSHTransport(
        login.spec, ssh_config="", key_filename=str(key), known_hosts=str(tmp_path / "known_hosts"), allow_agent=False
    )
    yield made
    made.close()


def test_commands(transport: SSHTransport, login: Sshd) -> None:
    """Arguments, input, output, errors and exit codes go through unharmed; a lost connection is made again."""
    odd = "a b'c\"d$e\\f\n*"
    (login.home / "in put").write_text("given")
    command = ["sh", "-c", 'printf "%s|" "$@"; cat; echo bad >&2; exit 7', "sh", odd, ""]
    done = transport.run(command, input=f"{login.home}/in put", timeout=10)
    assert (done.code, done.stdout, done.stderr) == (7, f"{odd}||given", "bad\n")
    assert transport.run(["no-such-command"], timeout=10).code == 127
    (login.home / ".bash_profile").write_text("export SQUEUE_FORMAT=%i LC_ALL=C\n")
    show = ["sh", "-c", "echo $SQUEUE_FORMAT $LC_ALL"]
    assert transport.run(show, timeout=10).stdout == "%i C\n"
    assert transport.run(show, timeout=10, query=True).stdout == "C.UTF-8\n"
    login.cut()
    assert transport.run(["echo", "back"], timeout=10).stdout == "back\n"
    login.stop()
    with pytest.raises(HostUnusable) as caught:
        transport.run(["true"], timeout=10)
    assert caught.value.retryable
    assert transport.run(["true"], timeout=10, query=True).code is None


def test_command_that_hangs(transport: SSHTransport, login: Sshd) -> None:
    """A command that hangs is ended on the login node when its time is over."""
    assert transport.run(["sleep", "1000"], timeout=1).code is None
    assert not login.until_empty(5)


def test_files(transport: SSHTransport, login: Sshd, tmp_path: Path) -> None:
    """Files are private, can be read back, and removed."""
    directory = Path(transport.deliver({"key": b"secret"}, "job"))
    assert login.home in directory.parents
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "key").stat().st_mode & 0o777 == 0o600
    here = tmp_path / "scripts"
    there = transport.place(str(here))
    transport.put({f"{there}/job.sh": "echo ä\n", f"{there}/more/x": "1"})
    assert Path(f"{there}/job.sh").stat().st_mode & 0o777 == 0o700
    assert transport.read(f"{there}/job.sh") == "echo ä\n"
    assert transport.read(f"{there}/none") is None
    with pytest.raises(HostUnusable):
        transport.put({f"{there}/job.sh": ""})
    assert transport.bring(f"{there}/job.sh") == f"{here}/job.sh"
    assert (here / "job.sh").read_text() == "echo ä\n"
    transport.rest()
    assert not directory.exists()


def test_way_home(transport: SSHTransport, login: Sshd) -> None:
    """Who connects to the relay on the login node reaches home, much data included, also after a lost connection."""
    echo = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(echo,), daemon=True).start()
    home = ("127.0.0.1", echo.getsockname()[1])
    addresses = transport.reach_home(home)
    assert "127.0.0.1" in addresses[-1]
    talk(addresses)
    login.cut()
    assert transport.reach_home(home) == addresses
    talk(addresses)
    transport.close()
    assert not login.until_empty(5)
    echo.close()


def serve(echo: socket.socket) -> None:
    """Send two connections' bytes back."""
    for _ in range(2):
        sock, _ = echo.accept()
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)


def talk(addresses: tuple[str, ...]) -> None:
    """Send some megabytes to the first address and take them back."""
    host, _, port = addresses[0].removeprefix("tcp://").rpartition(":")
    data = bytes(range(256)) * 10_000
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.settimeout(20)
        sender = threading.Thread(target=sock.sendall, args=(data,), daemon=True)
        sender.start()
        got = b""
        while len(got) < len(data):
            part = sock.recv(65536)
            assert part
            got += part
        sender.join(5)
    assert got == data


@pytest.mark.slow
def test_cluster_behind_a_login_node(
    transport: SSHTransport, login: Sshd, tmp_path: Path, load: Callable[..., Any]
) -> None:
    """A whole run on a batch system that is reached by its login node only; nothing is left there but output."""
    cluster = FakeScheduler("slurm", tmp_path)
    profile = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in cluster.environment.items())
    (login.home / ".bash_profile").write_text(profile)
    # So seldom that no query mends the way home.
    settings = {"status_polling_interval": 300, "cmd_timeout": 20}
    provider = cluster.provider(transport=transport, init_blocks=1, max_blocks=1, **settings)
    provider.script_dir = None
    executor = HighThroughputExecutor(
        label="far", provider=provider, max_workers_per_node=2, worker_python=sys.executable
    )
    kernel = load(executor)

    @flowlib.python_app
    def work(n: int) -> tuple[int, str]:
        import os

        return n, os.environ["PRETENDED_HOST"]

    results = [future.result(timeout=40) for future in [work(n) for n in range(20)]]
    assert results == [(n, login.name) for n in range(20)]
    login.cut()
    assert work(7).result(timeout=40)[0] == 7
    kernel.cleanup()
    assert not list(login.home.rglob("block.json"))
    assert list(login.home.rglob("*.sh"))
    assert not login.until_empty(10)
