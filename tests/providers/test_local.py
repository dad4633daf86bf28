"""LocalProvider: jobs run, tell how they ended, and leave nothing behind, whoever ends them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flowlib.errors import BadLauncher, ConfigurationError, ScriptPathError, SubmitException
from flowlib.jobs.states import JobState, JobStatus
from flowlib.launchers import SimpleLauncher, SingleNodeLauncher
from flowlib.providers import LocalProvider
from flowlib.providers.watched_init import notes

DEADLINE = 10


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., LocalProvider]]:
    """Makes providers with a script directory; their jobs are cancelled at the end."""
    made: list[LocalProvider] = []

    def provider(**settings: object) -> LocalProvider:
        made.append(LocalProvider(**settings))  # type: ignore[arg-type]
        made[-1].script_dir = str(tmp_path / "submit_scripts")
        return made[-1]

    yield provider
    for one in made:
        one.cancel(list(one.resources))
        one.status(list(one.resources))
        assert one.descriptors() == []


def ended(provider: LocalProvider, job: str) -> JobStatus:
    """The status of a job once it ended; noticed by its descriptor, not by asking again and again."""
    while not (status := provider.status([job])[0]).terminal:
        assert select.select(provider.descriptors(), [], [], DEADLINE)[0], "the job does not end"
    return status


def output(status: JobStatus) -> str:
    """What a job printed."""
    assert status.stdout_path is not None
    return Path(status.stdout_path).read_text()


def wait_for(path: Path) -> str:
    """The text of a file that a job writes, once it ends in a newline."""
    ticker, deadline = select.poll(), time.monotonic() + DEADLINE
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} was not written"
        ticker.poll(5)
    return path.read_text()


def gone(*pids: int) -> list[str]:
    """Those processes that are still there after a while."""
    deadline = time.monotonic() + DEADLINE
    while (alive := [pid for pid in pids if lives(pid)]) and time.monotonic() < deadline:
        select.select([], [], [], 0.005)
    return [str(psutil.Process(pid).cmdline()) for pid in alive]


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie, which only waits for somebody else to look at it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("code", "state"), [(0, JobState.COMPLETED), (3, JobState.FAILED)])
def test_job_runs_to_its_end(make: Callable[..., LocalProvider], code: int, state: JobState) -> None:
    """A job's streams and exit code are in files beside its script, and in its status."""
    provider = make(worker_init="export GREETING=hello")
    job = provider.submit(f"echo $GREETING $JOBNAME; echo oops >&2; exit {code}", 1, "a job/1")
    status = ended(provider, job)
    assert (status.state, status.exit_code) == (state, code)
    assert output(status) == "hello a job/1\n"
    assert status.stderr_summary == "oops\n"
    assert status.script_path is not None
    assert os.path.basename(status.script_path) == "a_job_1.sh"
    assert Path(f"{status.script_path}.ec").read_text() == f"{code}\n"


def test_live_job_runs(make: Callable[..., LocalProvider]) -> None:
    """A job that has not ended is running, and its descriptor is silent."""
    provider = make()
    job = provider.submit("read -r <> <(:)", 1, "job")
    assert provider.status([job])[0].state is JobState.RUNNING
    assert select.select(provider.descriptors(), [], [], 0)[0] == []


def test_script_is_what_was_shown(make: Callable[..., LocalProvider]) -> None:
    """render_script gives the very text that is run."""
    provider = make(worker_init="module() { :; }", launcher=SimpleLauncher())
    status = ended(provider, provider.submit("true", 1, "job"))
    assert status.script_path is not None
    assert Path(status.script_path).read_text() == provider.render_script("true", 1, "job")


def test_copies(make: Callable[..., LocalProvider]) -> None:
    """The launcher gets the tasks per node and the nodes of a block."""
    provider = make(nodes_per_block=2)
    assert output(ended(provider, provider.submit("echo x", 3, "job"))) == "x\n" * 6


def test_users_start_files_are_not_read(
    make: Callable[..., LocalProvider], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block is not slowed or changed by ~/.bashrc and ~/.bash_profile."""
    for name in (".bashrc", ".bash_profile", ".profile"):
        (tmp_path / name).write_text("echo read; exit 9\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    provider = make()
    assert output(ended(provider, provider.submit("echo ran", 1, "job"))) == "ran\n"


# ------------------------------------------------------------------------------------------------------ cancel


def test_cancel_lets_the_job_end_in_order(make: Callable[..., LocalProvider], tmp_path: Path) -> None:
    """The command gets SIGTERM and time to do something about it."""
    provider = make()
    job = provider.submit(f"bash -c 'trap \"echo bye; exit\" TERM; sleep 1000 & echo >{tmp_path}/up; wait'", 1, "job")
    wait_for(tmp_path / "up")
    assert provider.cancel([job]) == [True]
    status = provider.status([job])[0]
    assert status.state is JobState.CANCELLED
    assert output(status) == "bye\n"


def test_cancel_kills_what_does_not_end(make: Callable[..., LocalProvider], tmp_path: Path) -> None:
    """Whatever ignores SIGTERM is killed after a second, in other sessions and orphaned, too; all jobs at once."""
    script = tmp_path / "stubborn.sh"
    script.write_text(
        "trap '' TERM HUP\n"
        "echo $BASHPID\n"
        "(trap '' TERM; echo $BASHPID; exec sleep 1000) &\n"  # a child in the group
        "setsid bash -c 'echo $BASHPID; sleep 1000 & echo $!; wait' &\n"  # a tree in a session of its own
        "(set -m; (trap '' TERM; echo $BASHPID; sleep 1000) & )\n"  # an orphan in a group of its own
        f"echo >{tmp_path}/up-$1\n"
        "wait\n"
    )
    provider = make()
    jobs = [provider.submit(f"bash {script} {i}", 1, "job") for i in range(3)]
    for i in range(3):
        wait_for(tmp_path / f"up-{i}")
    outs = [provider.status([job])[0].stdout_path for job in jobs]
    pids = []
    for out in outs:
        assert out is not None
        deadline = time.monotonic() + DEADLINE
        while len(pids_of := Path(out).read_text().split()) < 5:
            assert time.monotonic() < deadline
            select.select([], [], [], 0.005)
        pids += [int(pid) for pid in pids_of]
    began = time.monotonic()
    assert provider.cancel(jobs) == [True] * 3
    assert 1 <= time.monotonic() - began < 2.5, "one grace for all"
    assert gone(*pids) == []
    assert {s.state for s in provider.status(jobs)} == {JobState.CANCELLED}


def test_cancel_of_an_ended_job(make: Callable[..., LocalProvider]) -> None:
    """A job that ended by itself keeps its end."""
    provider = make()
    job = provider.submit("exit 3", 1, "job")
    ended(provider, job)
    assert provider.cancel([job]) == [True]
    assert provider.status([job])[0].exit_code == 3


def test_background_processes_end_with_the_script(make: Callable[..., LocalProvider]) -> None:
    """What a script leaves in the background is ended with it, also what ignores SIGTERM."""
    provider = make()
    job = provider.submit("sleep 1000 & echo $!; (trap '' TERM; echo $BASHPID; exec sleep 1000) & exit 4", 1, "job")
    status = ended(provider, job)
    assert status.exit_code == 4
    assert gone(*map(int, output(status).split())) == []


def test_killed_from_outside(make: Callable[..., LocalProvider]) -> None:
    """A job whose guard is killed is failed with the signal's name, and its processes end."""
    provider = make()
    job = provider.submit("echo $BASHPID; exec sleep 1000", 1, "job")
    out = provider.status([job])[0].stdout_path
    assert out is not None
    child = int(wait_for(Path(out)))
    os.kill(int(job), signal.SIGKILL)
    status = ended(provider, job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 137)
    assert status.message == "ended by SIGKILL"
    assert gone(child) == []


def test_other_code_waits_for_our_children(make: Callable[..., LocalProvider]) -> None:
    """Where somebody else took a job's exit code, it is found in its file."""
    provider = make()
    job = provider.submit("exit 5", 1, "job")
    os.waitpid(int(job), 0)
    assert ended(provider, job).exit_code == 5


def test_sigchld_ignored(make: Callable[..., LocalProvider]) -> None:
    """A script that ignores SIGCHLD still learns how its blocks ended."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        provider = make()
        assert ended(provider, provider.submit("exit 6", 1, "job")).exit_code == 6
    finally:
        signal.signal(signal.SIGCHLD, before)


# ----------------------------------------------------------------------------------------------- the lifeline

DRIVER = """
import os, select, sys, signal
from flowlib.providers import LocalProvider
provider = LocalProvider(nodes_per_block={nodes})
provider.script_dir = {directory!r}
job = provider.submit({command!r}, 1, "job")
{more}
print(job, flush=True)
select.select([], [], [])
"""

READS_LIFELINE = 'trap "" TERM; echo "$BASHPID"; read -r -u "$FLOWLIB_LIFELINE"; echo eof; sleep 1000'


def start_driver(tmp_path: Path, command: str, nodes: int = 1, more: str = "") -> tuple[subprocess.Popen[str], int]:
    """A driver with one job; the driver's process and the job's id."""
    text = DRIVER.format(nodes=nodes, directory=str(tmp_path), command=command, more=more)
    driver = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    return driver, int(driver.stdout.readline())


@pytest.mark.parametrize("nodes", [1, 2])
def test_lifeline_reaches_every_copy(tmp_path: Path, nodes: int) -> None:
    """FLOWLIB_LIFELINE names a descriptor, also in background copies, that ends with the driver."""
    driver, job = start_driver(tmp_path, READS_LIFELINE, nodes)
    try:
        out = tmp_path / "job.sh.out"
        deadline = time.monotonic() + DEADLINE
        while out.read_text().count("\n") < nodes:
            assert time.monotonic() < deadline
            select.select([], [], [], 0.005)
        driver.kill()
        driver.wait(DEADLINE)
        assert gone(job, *map(int, out.read_text().split()[:nodes])) == []
        assert out.read_text().count("eof") == nodes
    finally:
        driver.kill()
        driver.communicate()


def test_job_that_watches_nothing_ends_with_its_driver(tmp_path: Path) -> None:
    """After SIGKILL of the driver a job that ignores the lifeline and SIGTERM is gone within seconds."""
    driver, job = start_driver(tmp_path, "trap '' TERM; echo $BASHPID; sleep 1000 & echo $!; wait")
    try:
        out = tmp_path / "job.sh.out"
        deadline = time.monotonic() + DEADLINE
        while out.read_text().count("\n") < 2:
            assert time.monotonic() < deadline
            select.select([], [], [], 0.005)
        began = time.monotonic()
        driver.kill()
        driver.wait(DEADLINE)
        assert gone(job, *map(int, out.read_text().split())) == []
        assert time.monotonic() - began < 5
    finally:
        driver.kill()
        driver.communicate()


FORKS = """
child = os.fork()
if child == 0:
    signal.alarm(60)
    signal.pause()
print(child, flush=True)
"""


def test_forked_children_do_not_keep_blocks_alive(tmp_path: Path) -> None:
    """A process that the driver forked and that outlives it does not hold the lifeline."""
    driver, child = start_driver(tmp_path, "echo $BASHPID; exec sleep 1000", more=FORKS)
    try:
        assert driver.stdout is not None
        job = int(driver.stdout.readline())
        driver.kill()
        driver.wait(DEADLINE)
        assert gone(job) == []
        assert psutil.pid_exists(child)
    finally:
        os.kill(child, signal.SIGKILL)
        driver.kill()
        driver.communicate()


def test_lifeline_is_closed_with_the_last_job(make: Callable[..., LocalProvider]) -> None:
    """Descriptors do not pile up: after the last job as many are open as before the first."""
    before = len(os.listdir("/dev/fd"))
    provider = make()
    jobs = [provider.submit("true", 1, "job") for _ in range(3)]
    for job in jobs:
        ended(provider, job)
    assert len(os.listdir("/dev/fd")) == before


# ------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "settings",
    [
        {"nodes_per_block": 0},
        {"init_blocks": -1},
        {"min_blocks": "2"},
        {"max_blocks": 1.5},
        {"parallelism": 2},
        {"parallelism": True},
        {"min_blocks": 3, "max_blocks": 2},
    ],
)
def test_bad_numbers(settings: dict[str, object]) -> None:
    """A number that makes no sense is refused, with its name and value."""
    name, value = next(iter(settings.items()))
    with pytest.raises(ConfigurationError, match=f"{name}={value!r}"):
        LocalProvider(**settings)  # type: ignore[arg-type]


def test_more_first_blocks_than_allowed() -> None:
    """max_blocks holds, and a warning says so."""
    with pytest.warns(UserWarning, match="init_blocks=3, max_blocks=1"):
        assert LocalProvider(init_blocks=3, max_blocks=1).init_blocks == 1


def test_bad_launcher() -> None:
    """A launcher's class or name is no launcher."""
    with pytest.raises(BadLauncher):
        LocalProvider(launcher=SingleNodeLauncher)  # type: ignore[arg-type]


def test_script_cannot_be_written(tmp_path: Path) -> None:
    """The error names the script and the reason."""
    provider = LocalProvider()
    (tmp_path / "file").touch()
    provider.script_dir = str(tmp_path / "file")
    with pytest.raises(ScriptPathError, match=r"job\.sh.*(exists|directory)"):
        provider.submit("true", 1, "job")


def test_no_process_can_be_started(
    make: Callable[..., LocalProvider], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error names the job; no descriptor is left open."""
    provider = make()
    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr("flowlib.providers.local.shutil.which", lambda name: str(tmp_path / "no-bash"))
    with pytest.raises(SubmitException, match=r"cannot launch job job: .*no-bash"):
        provider.submit("true", 1, "job")
    assert len(os.listdir("/dev/fd")) == before


def test_deliver_is_private(make: Callable[..., LocalProvider]) -> None:
    """Delivered files are readable by their owner only, and each delivery has its own directory."""
    provider = make()
    directories = [provider.deliver({"key.json": b"secret"}, "job") for _ in range(2)]
    assert directories[0] != directories[1]
    assert os.stat(directories[0]).st_mode & 0o777 == 0o700
    assert os.stat(f"{directories[0]}/key.json").st_mode & 0o777 == 0o600
    assert Path(directories[0], "key.json").read_bytes() == b"secret"
    with pytest.raises(ValueError, match="plain file names"):
        provider.deliver({"../key": b""})


def test_repr() -> None:
    """A provider prints as the call that makes it."""
    text = repr(LocalProvider(max_blocks=4, worker_init="x=1"))
    assert repr(eval(text)) == text


def test_most_blocks_unless_said() -> None:
    """Without max_blocks as many blocks may live as are asked for at the start; an explicit one holds."""
    assert LocalProvider(init_blocks=4).max_blocks == 4
    assert LocalProvider(init_blocks=0, min_blocks=2).max_blocks == 2
    assert LocalProvider(init_blocks=0).max_blocks == 1


def test_failing_commands_of_worker_init_are_noted(make: Callable[..., LocalProvider], tmp_path: Path) -> None:
    """They are told with their line, wherever they stand; those whose failure is asked for are not; all goes on."""
    sourced = tmp_path / "rc.sh"
    sourced.write_text("\nno-such-command --in rc\n:\n")
    text = f"(exit 7); echo code $?\nif false; then :; fi\nfalse || true\nsource {sourced}\nexport X=1"
    provider = make(worker_init=text)
    status = ended(provider, provider.submit("false; echo X=$X", 1, "job"))
    assert output(status) == "code 7\nX=1\n"
    assert status.script_path is not None
    assert notes(status.stderr_path) == [
        f"exit code 7 at {status.script_path}:5: ( exit 7 )",
        f"exit code 127 at {sourced}:2: no-such-command --in rc",
    ]


def test_own_trap_of_worker_init_stays(make: Callable[..., LocalProvider]) -> None:
    """A trap that the user sets is the user's, and ``set -e`` ends the block as ever."""
    provider = make(worker_init="trap 'echo mine' ERR")
    assert output(ended(provider, provider.submit("false; true", 1, "job"))) == "mine\n"
    strict = make(worker_init="set -e\nfalse")
    status = ended(strict, strict.submit("echo not reached", 1, "job"))
    assert (status.exit_code, output(status)) == (1, "")
    assert notes(status.stderr_path) == [f"exit code 1 at {status.script_path}:6: false"]


def test_walltime(make: Callable[..., LocalProvider]) -> None:
    """A job that outlives its walltime is ended with what it has started, and its status says so."""
    provider = make(walltime="1s")
    job = provider.submit("sleep 60 & wait", 1, "job")
    status = ended(provider, job)
    assert (status.state, status.message) == (JobState.TIMEOUT, "it was ended at its walltime")
    quick = provider.submit('test "$FLOWLIB_JOB_STARTED" -gt 0', 1, "job")
    assert ended(provider, quick).state is JobState.COMPLETED
    with pytest.raises(ConfigurationError, match="walltime"):
        LocalProvider(walltime="soon")
