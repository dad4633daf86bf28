"""Two pretended hosts, and the key that opens them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowlib.providers import SSHProvider
from tests.ssh.servers import Sshd, find_sshd, make_key

Start = Callable[..., Sshd]


@pytest.fixture(scope="session")
def sshd() -> None:
    """There is an sshd on this machine."""
    if find_sshd() is None:
        pytest.skip(
            "no sshd on this machine, and it may not be installed: tests on real SSH servers need openssh-server"
        )


@pytest.fixture
def key(tmp_path: Path, sshd: None) -> Path:
    """A private key that all hosts accept."""
    return make_key(tmp_path / "id")


@pytest.fixture
def start(tmp_path: Path, key: Path) -> Iterator[Start]:
    """Starts servers: ``start("a", options=[...])``; they are stopped after the test."""
    servers: list[Sshd] = []

    def start_server(name: str, options: Sequence[str] = ()) -> Sshd:
        authorized = tmp_path / "authorized_keys"
        authorized.write_text(Path(f"{key}.pub").read_text())
        servers.append(Sshd(tmp_path / name, authorized, f"{name}-{uuid.uuid4().hex[:8]}", options))
        with open(tmp_path / "known_hosts", "a") as file:
            file.write(servers[-1].known_hosts_line())
        return servers[-1]

    yield start_server
    for server in servers:
        server.stop()


@pytest.fixture
def hosts(start: Start) -> list[Sshd]:
    """Two hosts."""
    return [start("a"), start("b")]


@pytest.fixture
def provide(tmp_path: Path, key: Path) -> Callable[..., SSHProvider]:
    """Makes providers that know the keys and see nothing of the account's own configuration."""

    def make(servers: Sequence[Sshd | str], **settings: Any) -> SSHProvider:
        settings.setdefault("ssh_config", "")
        settings.setdefault("key_filename", str(key))
        settings.setdefault("known_hosts", str(tmp_path / "known_hosts"))
        settings.setdefault("allow_agent", False)
        settings.setdefault("connect_timeout", 5)
        names = [server if isinstance(server, str) else server.spec for server in servers]
        provider = SSHProvider(names, **settings)
        provider.script_dir = str(tmp_path)
        return provider

    return make
