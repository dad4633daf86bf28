"""What runs for a bash app: the command line, its streams and files, and how it ends."""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from flowlib.app import command
from flowlib.app.bash import BashCall
from flowlib.data_provider.files import File
from flowlib.errors import (
    AppBadFormatting,
    AppException,
    AppTimeout,
    BadStdStreamFile,
    BashAppNoReturn,
    BashExitFailure,
    MissingOutputs,
)

pytestmark = pytest.mark.usefixtures("in_tmp")

DEADLINE = 20.0


def text(line: str, stdout: Any = None, outputs: Any = ()) -> str:
    """The command line that it is given."""
    return line


run = BashCall(text, "run")
pidfd_open = os.pidfd_open
"""For the tests themselves, also where what they test has to do without."""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    """Whether a process ends within the deadline."""
    try:
        fd = pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], DEADLINE)[0])
    finally:
        os.close(fd)


@pytest.fixture(params=["pidfd", "thread"], autouse=True)
def _way_to_wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to notice the end of a command; the second is for systems without pidfd_open."""
    if request.param == "thread":
        monkeypatch.delattr(os, "pidfd_open", raising=False)


# --------------------------------------------------------------------------------------------------------- the body


def test_success() -> None:
    """A command that ends well gives 0."""
    assert run("true") == 0


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (lambda: None, BashAppNoReturn, ["mine", "returned nothing"]),
        (lambda: 5, ValueError, ["Expected a str", "int", "mine"]),
        (lambda: b"true", ValueError, ["Expected a str", "bytes"]),
        (lambda: "a\0b", ValueError, ["null character"]),
        (lambda: "{}".format(*[]), AppBadFormatting, ["mine", "IndexError"]),
        (lambda: (5).filepath, AppBadFormatting, ["AttributeError", "filepath"]),  # type: ignore[attr-defined]
        (lambda: {}["x"], KeyError, ["x"]),
    ],
)
def test_bodies_without_command(body: Any, error: type[Exception], words: list[str]) -> None:
    """A body that makes no command line is told apart by how it failed."""
    with pytest.raises(error) as caught:
        BashCall(body, "mine")()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_body_gets_what_it_takes() -> None:
    """Special arguments are for the body only where it has them as parameters."""
    assert BashCall(lambda: "true", "f")(stdout="o", stderr="e", walltime=5, inputs=[], outputs=[], label="x") == 0
    assert BashCall(lambda **kwargs: f"test {kwargs['label']} = x", "f")(label="x") == 0
    with pytest.raises(TypeError, match="other"):
        BashCall(lambda: "true", "f")(other=1)


def test_coroutine_as_body() -> None:
    """An async body is run to its end."""

    async def body() -> str:
        return "true"

    assert BashCall(body, "f")() == 0


def test_pickles() -> None:
    """It travels as its function and name."""
    again = pickle.loads(pickle.dumps(BashCall(text, "run", "task")))
    assert (again.func, again.name, again.workdir) == (text, "run", "task")
    assert again("true") == 0


# ------------------------------------------------------------------------------------------------------------ its end


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("exit 3", 3),
        ("no-such-command", 127),
        ("/etc/passwd", 126),
        ("kill -KILL $$", 137),
        ("bash -c 'kill -SEGV $$'; exit $?", 139),
        ("exit 255", 255),
        ("false | true", 0),
        ("echo 'unbalanced", 2),
    ],
)
def test_exit_codes(line: str, code: int) -> None:
    """The exit code is the one that bash has or would have."""
    if code == 0:
        assert run(line) == 0
        return
    with pytest.raises(BashExitFailure) as caught:
        run(line)
    assert caught.value.exitcode == code
    assert caught.value.command == line
    assert caught.value.workdir == os.getcwd()
    assert caught.value.host == os.uname().nodename


@pytest.mark.parametrize("stderr", [None, "err.txt", ("err.txt", "w")], ids=repr)
def test_last_lines_of_errors(stderr: Any) -> None:
    """A failure shows the last twenty lines of standard error, redirected or not, and not those of earlier tries."""
    Path("err.txt").write_text("from before\n" * 3)
    with pytest.raises(BashExitFailure) as caught:
        run("for i in $(seq 100); do echo line $i >&2; done; exit 1", stderr=stderr)
    assert caught.value.stderr_tail.splitlines() == [f"line {i}" for i in range(81, 101)]
    with pytest.raises(BashExitFailure) as caught:
        run("exit 1", stderr=stderr)
    assert caught.value.stderr_tail == ""


def test_errors_without_end() -> None:
    """Megabytes on standard error are passed on, and the end of them is kept."""
    with pytest.raises(BashExitFailure) as caught:
        run("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2; exit 1")
    assert caught.value.stderr_tail.endswith("\nlast")
    assert len(caught.value.stderr_tail) < 20_000


def test_errors_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    """What is not redirected goes where this process's own output goes."""
    run("echo to-out; echo to-err >&2")
    assert capfd.readouterr() == ("to-out\n", "to-err\n")


def test_missing_outputs() -> None:
    """Outputs that were not made are an error that names them; others are not named."""
    outputs = [File("there"), File("not-there")]
    with pytest.raises(MissingOutputs, match="not-there") as caught:
        run("touch there", outputs=outputs)
    assert caught.value.outputs == [File("not-there")]
    assert run("touch not-there", outputs=outputs) == 0


# -------------------------------------------------------------------------------------------------------- its streams


def test_streams() -> None:
    """Streams go to their files, whose directories are made; errors start with the command."""
    run("echo out; echo err >&2", stdout="new/dir/out", stderr=Path("new/err"))
    assert Path("new/dir/out").read_text() == "out\n"
    head = "--> executable follows <--\necho out; echo err >&2\n--> end executable <--\n"
    assert Path("new/err").read_text() == head + "err\n"


@pytest.mark.parametrize(
    ("mode", "content"), [("a", "before\nx\n"), ("w", "x\n"), ("a+", "before\nx\n"), ("r+", "x\nfore\n")]
)
def test_modes(mode: str, content: str) -> None:
    """A file that is there is treated as its mode says."""
    Path("out").write_text("before\n")
    run("echo x", stdout=("out", mode))
    assert Path("out").read_text() == content


def test_exclusive() -> None:
    """Mode x refuses a file that is there, and says so."""
    run("echo x", stdout=("out", "x"))
    with pytest.raises(BadStdStreamFile, match=r"out.*exists"):
        run("echo x", stdout=("out", "x"))


def test_both_in_one_file() -> None:
    """Two streams in one file keep their order, also when the file is emptied first."""
    run("echo 1; echo 2 >&2; echo 3", stdout=("both", "w"), stderr=("./both", "w"))
    assert Path("both").read_text().splitlines()[-3:] == ["1", "2", "3"]


@pytest.mark.parametrize("path", ["/proc/nothing/out", "a-directory/", "/etc/passwd/x"])
def test_streams_that_cannot_be_opened(path: str) -> None:
    """A stream that cannot be opened fails before the command runs, and names the file."""
    os.mkdir("a-directory")
    with pytest.raises(BadStdStreamFile, match=path):
        run("touch ran", stdout=path)
    assert not os.path.exists("ran")


def test_input_is_empty() -> None:
    """A command that reads its input gets end of file at once, never our terminal."""
    run("cat; echo read", stdout="out")
    assert Path("out").read_text() == "read\n"


# --------------------------------------------------------------------------------------------------- its surroundings


def test_clean_signals() -> None:
    """A command starts with no signal blocked or ignored, whatever this process does with them."""
    script = (
        "import signal\n"
        "from flowlib.app.bash import BashCall\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "BashCall(lambda stdout: 'exec grep -E ^Sig[BI] /proc/self/status', 'f')(stdout='status')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE, env=_environment())
    for line in Path("status").read_text().splitlines():
        # Two signals below the real-time ones are the C library's own business.
        assert int(line.split()[1], 16) & ~(3 << 31) == 0, line


def test_own_session() -> None:
    """A command leads a session of its own."""
    run("ps -o pid=,pgid=,sid= -p $$", stdout="ids")
    assert len(set(Path("ids").read_text().split())) == 1


def test_no_descriptors_are_inherited() -> None:
    """A command has the three standard streams and no other file of this process, whichever way they go."""
    with open("mine", "w"):
        run("ls -l /proc/$$/fd > list", stderr="e")
        run("ls -l /proc/$$/fd >> list", stdout="o")
    assert "mine" not in Path("list").read_text()
    assert "/e\n" in Path("list").read_text()


def test_long_command() -> None:
    """A command line longer than an argument may be is run all the same."""
    words = " ".join(f"word{i}" for i in range(100_000))
    run(f"set -- {words}\necho $# ${{100000}} $0", stdout="out")
    assert Path("out").read_text() == "100000 word99999 bash\n"


def test_quotes_and_other_alphabets() -> None:
    """Quotes, newlines and other alphabets arrive as written."""
    run('v=\'ä  $x\n"\'; printf \'%s|%s\' "$v" "$((1+1))"', stdout="out")
    assert Path("out").read_text() == 'ä  $x\n"|2'


def test_directory_for_each_task() -> None:
    """With workdir="task" commands run in a new directory each; declared files keep their meaning."""
    Path("in").write_text("text")
    call = BashCall(lambda inputs, outputs: f"cat {inputs[0]} > {outputs[0]}; pwd > here", "my task/app", "task")
    outputs = [File("out")]
    for _ in range(2):
        assert call(inputs=[File("in")], outputs=outputs) == 0
    assert Path("out").read_text() == "text"
    assert outputs[0].local_path is None
    directories = list(Path("task_dirs").iterdir())
    assert len(directories) == 2
    assert all((d / "here").read_text().strip() == str(d.absolute()) for d in directories)
    assert not os.path.exists("here")
    with pytest.raises(BashExitFailure) as caught:
        BashCall(lambda: "exit 1", "f", "task")()
    assert caught.value.workdir.startswith(os.path.abspath("task_dirs"))


@pytest.mark.parametrize("closed", ["0", "1", "2", "0, 1, 2"])
def test_closed_streams(closed: str) -> None:
    """Where this process has no standard streams, those of commands still go where they should."""
    script = (
        "import os\n"
        "from flowlib.app.bash import BashCall\n"
        f"for fd in [{closed}]: os.close(fd)\n"
        "BashCall(lambda stdout: 'echo out; echo err >&2', 'f')(stdout='o', stderr='e')\n"
        "BashCall(lambda stdout: 'echo more', 'f')(stdout='o')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE, env=_environment())
    assert Path("o").read_text() == "out\nmore\n"
    assert Path("e").read_text().endswith("err\n")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


# ------------------------------------------------------------------------------------------------------ its time limit


def test_walltime() -> None:
    """At its walltime a command is stopped; the error names command, host and files."""
    with pytest.raises(AppTimeout) as caught:
        run("sleep 100", walltime=0.2, stdout="out")
    for word in ("run", "0.2 s", "sleep 100", os.uname().nodename, "stdout: out"):
        assert word in str(caught.value)


def test_walltime_in_time() -> None:
    """A command that ends before its walltime is not touched."""
    assert run("true", walltime=100) == 0


def test_walltime_kills_what_ignores_it() -> None:
    """Commands that ignore SIGTERM, and children of commands that do not, are killed after a second."""
    began = monotonic()
    with pytest.raises(AppTimeout):
        run("(trap '' TERM; echo $BASHPID > child; while :; do sleep 0.1; done) & echo $$ > me; wait", walltime=0.3)
    assert monotonic() - began < DEADLINE
    assert gone(int(Path("child").read_text()))
    assert gone(int(Path("me").read_text()))


def test_commands_may_clean_up() -> None:
    """A command that handles SIGTERM has a moment to do so."""
    with pytest.raises(AppTimeout):
        run("trap 'echo cleaned > cleaned; exit' TERM; while :; do sleep 0.05; done", walltime=0.3)
    assert Path("cleaned").read_text() == "cleaned\n"


def test_failure_ends_the_group() -> None:
    """What a failed command left in the background is killed."""
    with pytest.raises(BashExitFailure):
        run("sleep 100 & echo $! > child; exit 1")
    assert gone(int(Path("child").read_text()))


def test_success_leaves_the_background_alone() -> None:
    """What a successful command left in the background goes on, also when it writes to standard error."""
    began = monotonic()
    os.mkfifo("fifo")
    assert run("(read < fifo; echo late >&2; echo done > late) & echo $! > child") == 0
    assert monotonic() - began < DEADLINE / 2
    child = int(Path("child").read_text())
    assert alive(child)
    with open("fifo", "w") as f:
        f.write("go\n")
    assert gone(child)
    assert Path("late").read_text() == "done\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, AppTimeout])
def test_interrupted(error: type[BaseException]) -> None:
    """An exception raised by a signal handler while a command runs ends the command, and comes out."""

    def handler(number: int, frame: Any) -> None:
        raise error("by the handler")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(error):
            run("echo $$ > me; sleep 100")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not alive(int(Path("me").read_text()))


# ------------------------------------------------------------------------------------------------------------- threads


def test_many_threads() -> None:
    """Commands of many threads keep their streams and codes apart, and leave no file open."""
    before = len(os.listdir("/proc/self/fd"))
    wrong: list[Any] = []

    def work(i: int) -> None:
        for _ in range(5):
            try:
                run(f"echo {i}; exit {i}", stdout=(f"out{i}", "w"))
                code = 0
            except BashExitFailure as e:
                code = e.exitcode
            if code != i or Path(f"out{i}").read_text() != f"{i}\n":
                wrong.append((i, code))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert wrong == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_interpreter_end_kills_commands() -> None:
    """Commands of threads that nobody waits for die with the interpreter."""
    script = (
        "import threading\n"
        "from flowlib.app.bash import BashCall\n"
        "call = BashCall(lambda: 'echo $$ > me; echo ready > fifo; sleep 100', 'f')\n"
        "threading.Thread(target=call, daemon=True).start()\n"
        "open('fifo').read()\n"
    )
    os.mkfifo("fifo")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE, env=_environment())
    assert gone(int(Path("me").read_text()))


# ----------------------------------------------------------------------------------------------------------- rare ends


def test_lost_exit_code() -> None:
    """Where the process ignores SIGCHLD nobody can know the code; that is said, not guessed."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(AppException, match="SIGCHLD"):
            run("exit 3")
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_no_bash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without bash says so."""
    real = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path != "/bin/bash" and real(path))
    monkeypatch.setattr(os, "posix_spawn", _raiser(FileNotFoundError(2, "No such file")))
    with pytest.raises(AppException, match="no /bin/bash"):
        run("true")


def test_no_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that cannot start another process says so, and no file stays open."""
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "posix_spawn", _raiser(BlockingIOError(11, "Resource temporarily unavailable")))
    with pytest.raises(AppException, match="temporarily unavailable"):
        run("true")
    assert len(os.listdir("/proc/self/fd")) == before


def test_old_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without support for sessions a process group of its own has to do."""
    real = os.posix_spawn

    def spawn(*args: Any, **kwargs: Any) -> int:
        if kwargs.pop("setsid", False):
            raise NotImplementedError
        return real(*args, **kwargs)

    monkeypatch.setattr(os, "posix_spawn", spawn)
    run("ps -o pid=,pgid= -p $$", stdout="ids")
    assert len(set(Path("ids").read_text().split())) == 1


def _raiser(error: Exception) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise error

    return call


@pytest.fixture(autouse=True)
def _nothing_registered() -> Iterator[None]:
    """After each test no command counts as running."""
    yield
    assert command._running == set()
