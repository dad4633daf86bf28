"""Whole runs of the high-throughput executor on real SSH servers, through tunnels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib import HighThroughputExecutor
from flowlib.executors.errors import BadStateException
from flowlib.providers import SSHProvider
from tests.ssh.servers import Sshd

Provide = Callable[..., SSHProvider]
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@flowlib.python_app
def where(seconds: float = 0.0) -> str:
    """The pretended host on which a task runs."""
    import os
    import time

    time.sleep(seconds)
    return os.environ["PRETENDED_HOST"]


def executor(provider: SSHProvider, **settings: Any) -> HighThroughputExecutor:
    """One for tests: two workers on each host, impatient."""
    provider.script_dir = None
    settings.setdefault("max_workers_per_node", 2)
    settings.setdefault("heartbeat_period", 1)
    settings.setdefault("heartbeat_threshold", 10)
    return HighThroughputExecutor(label="far", provider=provider, **settings)


def test_run_on_two_hosts(hosts: list[Sshd], provide: Provide, load: Callable[..., Any]) -> None:
    """Tasks run on both hosts, large values go through the tunnel, and nothing is left on the hosts."""
    kernel = load(executor(provide(hosts)))
    seen = set()
    deadline = time.monotonic() + 40
    while len(seen) < 2:
        assert time.monotonic() < deadline, seen
        seen |= {future.result(timeout=30) for future in [where(0.05) for _ in range(8)]}
    assert seen == {host.name for host in hosts}

    @flowlib.python_app
    def double(data: bytes) -> bytes:
        return data * 2

    assert double(b"x" * 5_000_000).result(timeout=30) == b"x" * 10_000_000
    kernel.cleanup()
    for host in hosts:
        assert not host.until_empty(10)
        assert [str(path) for path in host.home.rglob("*") if path.is_file()] == []


def test_host_dies(hosts: list[Sshd], provide: Provide, load: Callable[..., Any]) -> None:
    """A host that dies in the middle of a run loses no task: the other one does its work."""
    load(executor(provide(hosts, reconnect_timeout=3)), retries=2)
    futures = [where(0.3) for _ in range(40)]
    deadline = time.monotonic() + 30
    while not any(future.done() and future.result() == hosts[0].name for future in futures):
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
    hosts[0].crash()
    results = [future.result(timeout=40) for future in futures]
    assert set(results) == {host.name for host in hosts}
    assert results.count(hosts[1].name) > 20


def test_host_with_files_of_its_own(
    hosts: list[Sshd], provide: Provide, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, run_dir: str
) -> None:
    """Where nothing is shared, tasks work in the block's directory, and the manager's log is fetched at the end."""
    monkeypatch.setattr(SSHProvider, "_shared_mark", lambda self: "")

    @flowlib.bash_app
    def write(stdout: Any = None) -> str:
        return "pwd -P; pwd -P >here"

    @flowlib.python_app
    def directory() -> str:
        import os

        return os.getcwd()

    kernel = load(executor(provide(hosts[:1])))
    far = Path(directory().result(timeout=30))
    assert hosts[0].home / ".cache/flowlib/ssh" in far.parents
    assert write().result(timeout=30) == 0
    assert (far / "here").read_text() == f"{far}\n"
    kernel.cleanup()
    (log,) = Path(run_dir).rglob("manager.log")
    assert "registered" in log.read_text()
    assert not far.exists()


def test_connection_is_cut(hosts: list[Sshd], provide: Provide, load: Callable[..., Any]) -> None:
    """A run goes on after its connections were cut, with the same managers, at no task's cost."""
    kernel = load(executor(provide(hosts[:1])), retries=0)
    assert where().result(timeout=30) == hosts[0].name
    (manager,) = kernel.executors["far"].connected_managers()
    futures = [where(0.2) for _ in range(20)]
    threading.Event().wait(0.5)
    hosts[0].cut()
    assert {future.result(timeout=40) for future in futures} == {hosts[0].name}
    (after,) = kernel.executors["far"].connected_managers()
    assert after["manager"] == manager["manager"]


def test_run_through_a_jump_host(start: Callable[..., Sshd], provide: Provide, load: Callable[..., Any]) -> None:
    """A run goes through a jump host, and goes on after the connections to that were cut."""
    jump, inner = start("jump"), start("inner")
    load(executor(provide([inner], jump=jump.spec)), retries=0)
    assert where().result(timeout=30) == inner.name
    futures = [where(0.2) for _ in range(10)]
    jump.cut()
    assert {future.result(timeout=40) for future in futures} == {inner.name}


def test_no_host_can_be_used(hosts: list[Sshd], provide: Provide, load: Callable[..., Any]) -> None:
    """The error of a run without a usable host names each host and its remedy."""
    hosts[0].stop()
    load(executor(provide([*hosts, "nowhere.invalid"], python="/no/python")))
    with pytest.raises(BadStateException) as caught:
        where().result(timeout=40)
    text = str(caught.value)
    assert f"{hosts[0].spec}: nothing listens on port {hosts[0].port}" in text
    assert f"{hosts[1].spec}: there is no Python (tried /no/python); install it" in text
    assert "nowhere.invalid: the name 'nowhere.invalid' is unknown" in text


DRIVER = """
import sys
import flowlib
from flowlib import Config, HighThroughputExecutor, python_app
from flowlib.providers import SSHProvider

@python_app
def task(seconds):
    import time
    time.sleep(seconds)
    return "done"

if __name__ == "__main__":
    spec, key, known = sys.argv[1:]
    provider = SSHProvider([spec], ssh_config="", key_filename=key, known_hosts=known, allow_agent=False)
    flowlib.load(Config(executors=[HighThroughputExecutor(
        label="far", provider=provider, max_workers_per_node=2, lease=2, heartbeat_period=1, heartbeat_threshold=3
    )]))
    print(task(0).result(timeout=40), flush=True)
    task(1000).result()
"""


def test_driver_is_killed(hosts: list[Sshd], key: Path, tmp_path: Path) -> None:
    """After SIGKILL of the driver its manager ends within the lease; no process and no key is left on the host."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, str(script), hosts[0].spec, str(key), str(tmp_path / "known_hosts")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "done\n"
        assert hosts[0].processes()
        driver.send_signal(signal.SIGKILL)
        driver.wait(10)
    assert not hosts[0].until_empty(20)
    left = {path.name for path in hosts[0].home.rglob("*") if path.is_file()}
    assert not left & {"block.json", "manager.sh"}
    assert "ec" in left
