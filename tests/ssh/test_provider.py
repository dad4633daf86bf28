"""The provider on real servers: jobs on hosts, and what is wrong with hosts."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers import SSHProvider
from flowlib.ssh import agent
from tests.ssh.network import Network
from tests.ssh.servers import Sshd, make_key

Provide = Callable[..., SSHProvider]


def until(provider: SSHProvider, job: str, state: JobState | None = None, seconds: float = 20) -> JobStatus:
    """The job's status once it is in that state, or has ended."""
    deadline = time.monotonic() + seconds
    while True:
        (status,) = provider.status([job])
        if status.state is state or status.terminal:
            return status
        left = deadline - time.monotonic()
        assert left > 0, f"still {status}"
        with selectors.DefaultSelector() as selector:
            for fd in provider.descriptors():
                selector.register(fd, selectors.EVENT_READ)
            selector.select(min(left, 1))


def test_job_runs_on_a_host(hosts: list[Sshd], provide: Provide) -> None:
    """A job's script runs on a host with its files, and its last words and exit code come back."""
    provider = provide(hosts[:1])
    directory = provider.deliver({"block.json": b"secret"}, "job")
    job = provider.submit(
        f'stat -c %a "{directory}" "{directory}/block.json"; echo $PRETENDED_HOST >&2; exit 7', 1, "job"
    )
    status = until(provider, job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 7)
    assert status.stdout_summary == "700\n600\n"
    assert status.stderr_summary == f"{hosts[0].name}\n"
    assert list(hosts[0].home.rglob("*.json")) == []
    assert not hosts[0].until_empty(5)


def the_verdict(provider: SSHProvider) -> str:
    """What becomes of a job whose only host cannot be used."""
    status = until(provider, provider.submit("true", 1, "job"))
    assert status.state is JobState.FAILED
    assert status.message is not None
    assert status.message.startswith("no host can be used\n    ")
    (verdict,) = provider.verdicts().values()
    assert verdict in status.message
    return verdict


def test_cancel_ends_the_process_group(hosts: list[Sshd], provide: Provide) -> None:
    """A cancelled job's processes are gone when cancel returns, also those that ignore SIGTERM, and so are its files."""
    provider = provide(hosts[:1])
    directory = provider.deliver({"block.json": b"secret"}, "job")
    script = f"ls {directory}; echo begun; trap '' TERM; sleep 1000 & while true; do wait; done"
    job = provider.submit(script, 1, "job")
    until(provider, job, JobState.RUNNING)
    assert hosts[0].processes()
    assert provider.cancel([job]) == [True]
    (status,) = provider.status([job])
    assert status.state is JobState.CANCELLED
    assert not hosts[0].until_empty(2)
    assert [path for path in hosts[0].home.rglob("*") if path.is_file()] == []


def test_cancel_at_any_moment(hosts: list[Sshd], provide: Provide) -> None:
    """A job that is cancelled at any moment of its start leaves nothing on the host."""
    provider = provide(hosts[:1])
    for state in (JobState.RUNNING, JobState.PENDING) * 4:
        job = provider.submit("sleep 1000", 1, "job")
        until(provider, job, state)
        assert provider.cancel([job]) == [True]
        assert provider.status([job])[0].state is JobState.CANCELLED
    wait_for(lambda: not any(thread.name.startswith("flowlib-ssh") for thread in threading.enumerate()))
    assert not hosts[0].until_empty(5)
    assert [path for path in hosts[0].home.rglob("*") if path.is_file()] == []


def test_blocks_take_free_hosts(hosts: list[Sshd], provide: Provide) -> None:
    """Each block has a host of its own; one more waits, and says so, until a host is free."""
    provider = provide(hosts)
    jobs = [provider.submit("sleep 1000", 1, f"job{i}") for i in range(3)]
    for job in jobs[:2]:
        until(provider, job, JobState.RUNNING)
    (status,) = provider.status(jobs[2:])
    assert (status.state, status.message) == (JobState.PENDING, "waits for a free host")
    assert {host for job in provider.resources.values() for host in job["hosts"]} == {*(h.spec for h in hosts), ""}
    provider.cancel(jobs[:1])
    until(provider, jobs[2], JobState.RUNNING)
    assert provider.cancel(jobs) == [True] * 3
    assert not hosts[0].until_empty(5)
    assert not hosts[1].until_empty(5)


def test_block_of_two_hosts(hosts: list[Sshd], provide: Provide) -> None:
    """A block of two hosts runs its command on each, and fails if one of them does."""
    provider = provide(hosts, nodes_per_block=2)
    job = provider.submit(f"echo $PRETENDED_HOST; test $PRETENDED_HOST = {hosts[0].name}", 1, "job")
    status = until(provider, job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 1)
    assert (status.stdout_summary or "").split() == [host.name for host in hosts]


def test_bad_host_is_set_aside(hosts: list[Sshd], provide: Provide, tmp_path: Path) -> None:
    """A job goes on to the next host when one cannot be used, and the verdict on that one can be had."""
    hosts[0].stop()
    provider = provide(hosts)
    job = provider.submit("echo $PRETENDED_HOST", 1, "job")
    status = until(provider, job)
    assert status.state is JobState.COMPLETED
    assert status.stdout_summary == f"{hosts[1].name}\n"
    verdicts = provider.verdicts()
    assert "connection refused" in verdicts[hosts[0].spec]
    assert verdicts[hosts[1].spec].startswith("usable, with Python {}.{}.".format(*sys.version_info[:2]))


def test_next_run_tries_all_hosts(hosts: list[Sshd], provide: Provide, tmp_path: Path) -> None:
    """A host that was set aside in one run is tried again in the next one of the same provider."""
    provider = provide(hosts[:1], known_hosts=str(tmp_path / "none"))
    assert "is unknown" in the_verdict(provider)
    (tmp_path / "none").write_text(hosts[0].known_hosts_line())
    assert "is unknown" in the_verdict(provider)
    provider.script_dir = str(tmp_path / "next")
    job = provider.submit("true", 1, "job")
    assert until(provider, job).state is JobState.COMPLETED


def test_check(hosts: list[Sshd], provide: Provide) -> None:
    """All hosts can be tried before a run; nothing is left there."""
    verdicts = provide([*hosts, "nowhere.invalid"]).check()
    assert [verdicts[host.spec].startswith("usable, with Python") for host in hosts] == [True, True]
    assert "is unknown" in verdicts["nowhere.invalid"]
    for host in hosts:
        assert not host.until_empty(5)
        assert [path for path in host.home.rglob("*") if path.is_file()] == []


def test_wrong_key(hosts: list[Sshd], provide: Provide, tmp_path: Path) -> None:
    """A key that is not accepted is named, and how to add it."""
    other = make_key(tmp_path / "other")
    verdict = the_verdict(provide(hosts[:1], key_filename=str(other)))
    assert f"accepts none of the keys that were tried ({other})" in verdict
    assert f"ssh-copy-id -p {hosts[0].port}" in verdict


def test_missing_key(hosts: list[Sshd], provide: Provide, tmp_path: Path) -> None:
    """A key file that is not there is named as such."""
    verdict = the_verdict(provide(hosts[:1], key_filename=str(tmp_path / "none")))
    assert f"there is no {tmp_path}/none" in verdict


def test_key_with_passphrase(hosts: list[Sshd], provide: Provide, tmp_path: Path) -> None:
    """A key that needs a passphrase is sent to the agent."""
    other = make_key(tmp_path / "other", passphrase="open sesame")
    verdict = the_verdict(provide(hosts[:1], key_filename=str(other)))
    assert "protected by a passphrase" in verdict
    assert "ssh-add" in verdict


def test_unknown_host_key(hosts: list[Sshd], provide: Provide, tmp_path: Path) -> None:
    """A host that is not known is refused, with its fingerprint; on request it is taken in and known from then on."""
    known = tmp_path / "none"
    verdict = the_verdict(provide(hosts[:1], known_hosts=str(known)))
    shown = subprocess.run(["ssh-keygen", "-lf", f"{hosts[0].key}.pub"], capture_output=True, text=True, check=True)
    assert f"is unknown to {known}" in verdict
    assert shown.stdout.split()[1] in verdict
    assert "accept_new_host_keys=True" in verdict
    for accept in (True, False):
        provider = provide(hosts[:1], known_hosts=str(known), accept_new_host_keys=accept)
        assert until(provider, provider.submit("true", 1, "job")).state is JobState.COMPLETED
    assert known.read_text() == hosts[0].known_hosts_line()
    assert known.stat().st_mode & 0o777 == 0o600


def test_changed_host_key(hosts: list[Sshd], provide: Provide, tmp_path: Path) -> None:
    """A host with another key than the known one is refused, also where new ones are accepted."""
    known = tmp_path / "known"
    known.write_text(hosts[0].known_hosts_line(make_key(tmp_path / "other")))
    verdict = the_verdict(provide(hosts[:1], known_hosts=str(known), accept_new_host_keys=True))
    assert "ITS KEY HAS CHANGED" in verdict
    assert f"ssh-keygen -R '[127.0.0.1]:{hosts[0].port}'" in verdict


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"python": "/no/such/python"}, "there is no Python (tried /no/such/python)"),
        ({"python": "/bin/true"}, "there is no Python"),
        ({"worker_init": "exit 3"}, "worker_init ended the shell"),
        ({"worker_init": "echo 'no such module' >&2; exit 3"}, "no such module"),
        ({"workdir": "/proc/nowhere"}, "workdir cannot be used"),
        ({"private_dir": "/proc/nowhere"}, "no directory can be made in /proc/nowhere"),
    ],
    ids=["no python", "not python", "worker_init ends", "and says why", "workdir", "private_dir"],
)
def test_unfit_hosts(hosts: list[Sshd], provide: Provide, settings: dict[str, str], expected: str) -> None:
    """What a host lacks is said, with a remedy."""
    assert expected in the_verdict(provide(hosts[:1], **settings))


def test_other_python(hosts: list[Sshd], provide: Provide, tmp_path: Path) -> None:
    """A Python of another version, one without flowlib and one with another flowlib are told apart."""

    def pretend(name: str, *lines: str) -> str:
        path = tmp_path / name
        path.write_text("#!/bin/sh\ncat >/dev/null\n" + "".join(f"echo 'FLOWLIB-SSH {line}'\n" for line in lines))
        path.chmod(0o755)
        return str(path)

    ours = "{}.{}.0".format(*sys.version_info[:2])
    old = pretend("old", "version=3.8.1", "executable=/opt/old/python")
    verdict = the_verdict(provide(hosts[:1], python=old))
    assert "its /opt/old/python is Python 3.8.1, here runs" in verdict
    bare = pretend("bare", f"version={ours}", "executable=/opt/p", "missing=No module named flowlib")
    verdict = the_verdict(provide(hosts[:1], python=bare))
    assert "/opt/p cannot import flowlib (No module named flowlib)" in verdict
    assert "/opt/p -m pip install flowlib==" in verdict
    early = pretend("early", f"version={ours}", "executable=/opt/p", "flowlib=0.0.1", "protocol=0")
    assert "flowlib 0.0.1 there" in the_verdict(provide(hosts[:1], python=early))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("Subsystem sftp /bin/false", "offers no sftp"),
        ("AllowTcpForwarding no", "needs AllowTcpForwarding yes"),
        ("ForceCommand /bin/false", "the account's shell runs no commands"),
    ],
)
def test_strict_servers(start: Callable[..., Sshd], provide: Provide, option: str, expected: str) -> None:
    """What a server does not allow is said."""
    provider = provide([start("strict", [option])])
    provider.remote_side(("127.0.0.1", 9), None, "")
    assert expected in the_verdict(provider)


def test_unknown_name(provide: Provide) -> None:
    """A name that nobody knows is said to be one."""
    assert "the name 'nowhere.invalid' is unknown" in the_verdict(provide(["nowhere.invalid"]))


def test_no_ssh_server(provide: Provide) -> None:
    """Something else that listens on the port is no SSH server; it costs no more than the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        verdict = the_verdict(provide([f"127.0.0.1:{server.getsockname()[1]}"], connect_timeout=1))
        assert "is no SSH server, or it is overloaded" in verdict
        assert time.monotonic() - began < 10


def test_jump_host(start: Callable[..., Sshd], provide: Provide) -> None:
    """A host is reached through another one, whose trouble is told as its own."""
    jump, inner = start("jump"), start("inner")
    provider = provide([inner], jump=jump.spec)
    status = until(provider, provider.submit("echo $PRETENDED_HOST $SSH_CLIENT", 1, "job"))
    assert (status.stdout_summary or "").split()[0] == inner.name
    assert "Accepted publickey" in jump.log.read_text()
    jump.stop()
    verdict = the_verdict(provide([inner], jump=jump.spec))
    assert f"jump host {jump.spec}: nothing listens on port {jump.port}" in verdict


def test_ssh_config(start: Callable[..., Sshd], provide: Provide, tmp_path: Path, key: Path) -> None:
    """Aliases, accounts, keys, known hosts and jump hosts come from an ssh_config."""
    jump, inner = start("jump"), start("inner")
    config = tmp_path / "config"
    config.write_text(
        f"Host inner\n  HostName 127.0.0.1\n  Port {inner.port}\n  ProxyJump jump\n"
        f"Host jump\n  HostName 127.0.0.1\n  Port {jump.port}\n"
        f"Host *\n  User {inner.user}\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {tmp_path}/known_hosts\n"
    )
    provider = provide(["inner"], ssh_config=str(config), key_filename=None, known_hosts=None)
    status = until(provider, provider.submit("echo $PRETENDED_HOST", 1, "job"))
    assert status.stdout_summary == f"{inner.name}\n"


def test_proxy_command(hosts: list[Sshd], provide: Provide, tmp_path: Path) -> None:
    """A ProxyCommand of an ssh_config is used, and its process ends with the connection."""
    host = hosts[0]
    config = tmp_path / "config"
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "def out():\n"
        "    while d := s.recv(65536): os.write(1, d)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=out, daemon=True).start()\n"
        "while d := os.read(0, 65536): s.sendall(d)\n"
    )
    config.write_text(
        f"Host far\n  HostName 127.0.0.1\n  Port {host.port}\n  ProxyCommand {sys.executable} {relay} %p\n"
    )
    provider = provide(["far"], ssh_config=str(config))
    status = until(provider, provider.submit("echo $PRETENDED_HOST", 1, "job"))
    assert status.stdout_summary == f"{host.name}\n"


def test_connection_is_cut_and_comes_back(
    hosts: list[Sshd], provide: Provide, caplog: pytest.LogCaptureFixture
) -> None:
    """A job goes on without its connection, and its end is known after that is back."""
    provider = provide(hosts[:1])
    job = provider.submit('until [ -e "$HOME/go" ]; do sleep 0.1; done; exit 5', 1, "job")
    until(provider, job, JobState.RUNNING)
    hosts[0].cut()
    wait_for(lambda: "is back" in caplog.text)
    assert provider.status([job])[0].state is JobState.RUNNING
    (hosts[0].home / "go").touch()
    status = until(provider, job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 5)


def test_job_ends_while_there_is_no_connection(hosts: list[Sshd], provide: Provide) -> None:
    """The exit code of a job that ended meanwhile is known after the connection is back."""
    provider = provide(hosts[:1])
    job = provider.submit('until [ -e "$HOME/go" ]; do sleep 0.1; done; exit 5', 1, "job")
    until(provider, job, JobState.RUNNING)
    hosts[0].stop()
    (hosts[0].home / "go").touch()
    assert not hosts[0].until_empty(10)
    hosts[0].start()
    status = until(provider, job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 5)


def test_host_stays_away(hosts: list[Sshd], provide: Provide) -> None:
    """A job whose host does not come back counts as failed after ``reconnect_timeout``."""
    provider = provide(hosts[:1], reconnect_timeout=1)
    job = provider.submit("sleep 1000", 1, "job")
    until(provider, job, JobState.RUNNING)
    hosts[0].crash()
    status = until(provider, job)
    assert status.state is JobState.FAILED
    assert "was lost and not back within 1 s" in (status.message or "")


def test_guard_is_killed(hosts: list[Sshd], provide: Provide) -> None:
    """A job whose processes were killed by somebody else has failed."""
    provider = provide(hosts[:1])
    job = provider.submit("sleep 1000", 1, "job")
    until(provider, job, JobState.RUNNING)
    wait_for(lambda: hosts[0].running("sleep 1000"))
    (guard,) = hosts[0].running("/guard.sh")
    os.killpg(guard.pid, signal.SIGKILL)
    assert until(provider, job).state is JobState.FAILED
    assert not hosts[0].until_empty(5)


def test_only_the_guard_is_killed(hosts: list[Sshd], provide: Provide) -> None:
    """What a block's killed guard leaves running is ended too."""
    provider = provide(hosts[:1])
    job = provider.submit("sleep 1000", 1, "job")
    until(provider, job, JobState.RUNNING)
    wait_for(lambda: hosts[0].running("sleep 1000"))
    (guard,) = hosts[0].running("/guard.sh")
    guard.kill()
    assert until(provider, job).state is JobState.FAILED
    assert not hosts[0].until_empty(5)


def test_silent_network(
    hosts: list[Sshd],
    provide: Provide,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A connection on which nothing comes any more is noticed, and another one made."""
    monkeypatch.setattr(agent, "PING_EVERY", 0.2)
    monkeypatch.setattr(agent, "PING_PATIENCE", 0.5)
    with contextlib.closing(Network(hosts[0].port)) as network:
        line = hosts[0].known_hosts_line().replace(str(hosts[0].port), str(network.port))
        (tmp_path / "known_hosts").write_text(line)
        provider = provide([f"{hosts[0].user}@127.0.0.1:{network.port}"])
        job = provider.submit("sleep 1000", 1, "job")
        until(provider, job, JobState.RUNNING)
        network.swallow()
        wait_for(lambda: "is back" in caplog.text)
        assert provider.status([job])[0].state is JobState.RUNNING
        assert provider.cancel([job]) == [True]
        assert not hosts[0].until_empty(5)


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, provide: Provide) -> None:
    """Without paramiko the extra to install is named."""
    monkeypatch.setitem(sys.modules, "paramiko", None)
    assert "pip install 'flowlib[ssh]'" in the_verdict(provide(["somewhere"]))


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something is true."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.02)


@pytest.fixture
def ssh_agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """An SSH agent of the test's own; adds keys to it."""
    with tempfile.TemporaryDirectory(prefix="agent-") as directory:
        path = f"{directory}/socket"
        with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
            try:
                wait_for(lambda: os.path.exists(path))
                monkeypatch.setenv("SSH_AUTH_SOCK", path)
                yield lambda key: subprocess.run(["ssh-add", "-q", str(key)], check=True, timeout=10)
            finally:
                process.terminate()


def test_agent(
    hosts: list[Sshd], provide: Provide, tmp_path: Path, key: Path, ssh_agent: Callable[[Path], None]
) -> None:
    """The agent's keys are tried; of many, those that the ssh_config names, since servers refuse to be asked too often."""
    settings: dict[str, Any] = {"key_filename": None, "allow_agent": True}
    ssh_agent(key)
    provider = provide(hosts[:1], **settings)
    assert until(provider, provider.submit("true", 1, "job")).state is JobState.COMPLETED
    subprocess.run(["ssh-add", "-q", "-D"], check=True, timeout=10)
    for number in range(7):
        ssh_agent(make_key(tmp_path / f"other{number}"))
    ssh_agent(key)
    verdict = the_verdict(provide(hosts[:1], **settings))
    assert "refused to try more keys" in verdict
    only = tmp_path / "named"
    Path(f"{only}.pub").write_text(Path(f"{key}.pub").read_text())  # the private half is the agent's alone
    config = tmp_path / "config"
    config.write_text(f"Host *\n  IdentityFile {only}\n  IdentitiesOnly yes\n")
    provider = provide(hosts[:1], **settings, ssh_config=str(config))
    assert until(provider, provider.submit("true", 1, "job")).state is JobState.COMPLETED
