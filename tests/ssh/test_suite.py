"""The suite that every provider passes, on real SSH servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlib.providers import SSHProvider
from flowlib.testing.provider_suite import Backend, ProviderSuite
from tests.demo import check, demo
from tests.ssh.servers import Sshd

pytestmark = pytest.mark.slow


class Hosts(Backend):
    """Some pretended hosts, since a host has one block at a time."""

    walltime = False

    def __init__(self, servers: list[Sshd], provide: Callable[..., SSHProvider], directory: Path) -> None:
        self.servers = servers
        self.provide = provide
        self.directory = directory
        self.foreign: list[subprocess.Popen[bytes]] = []
        self.made: list[SSHProvider] = []

    def provider(self, **options: Any) -> SSHProvider:
        # With a worker_init the host's own Python would be taken, which needs flowlib.
        self.made.append(self.provide(self.servers, python=sys.executable, **options))
        self.made[-1].script_dir = str(self.directory / "run" / "scripts")
        return self.made[-1]

    def start_foreign(self) -> Callable[[], bool]:
        """A process of the same account, as a user's own shell would start it."""
        self.foreign.append(subprocess.Popen(["sleep", "1000"], env={"PATH": "/usr/bin:/bin"}))
        return lambda: self.foreign[-1].poll() is None

    def close(self) -> None:
        for provider in self.made:
            provider.cancel(list(provider.resources))
        for process in self.foreign:
            process.kill()
            process.wait()


class TestSSH(ProviderSuite):
    @pytest.fixture
    def backend(self, hosts: list[Sshd], provide: Callable[..., SSHProvider], tmp_path: Path) -> Iterator[Hosts]:
        """Jobs run on two hosts, one at a time on each."""
        found = Hosts(hosts, provide, tmp_path)
        yield found
        found.close()


@pytest.mark.timeout(120)
def test_demo(hosts: list[Sshd], key: Path, tmp_path: Path) -> None:
    """The demonstration runs on hosts that a site's file names."""
    text = f"""\
name = "Two hosts"
scheduler = "ssh"
verified = 2026-01-01

[provider]
hosts = {[host.spec for host in hosts]}
key_filename = "{key}"
known_hosts = "{tmp_path}/known_hosts"
ssh_config = ""
allow_agent = false

[executor]
max_workers_per_node = 2
"""
    check(tmp_path, demo(tmp_path, "two-hosts", text))
