"""The tests that every provider passes, written once: for flowlib's own providers, and for yours.

A subclass says what to test, by a fixture; pytest does the rest::

    import pytest
    from flowlib.testing.provider_suite import Backend, ProviderSuite


    class TestMyProvider(ProviderSuite):
        @pytest.fixture
        def backend(self, tmp_path):
            yield MyBackend(tmp_path)

``ProviderSuite`` needs nothing but the provider and something for it to run on.  The suites in
``flowlib.testing.scheduler_suite`` also break the scheduler, and so need a fake one.

This module needs pytest.  Put ``pytest.register_assert_rewrite("flowlib.testing")`` into ``conftest.py`` to see the
values in failed assertions.
"""

from __future__ import annotations

import os
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from flowlib.errors import ConfigurationError
from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers.base import ExecutionProvider
from flowlib.testing.waiting import status_of, wait_for_state, wait_until

_ODD = ["a  b", 'c"d"', "e'f", "$HOME", "`g`", "\\h", "i;j&k|l", "*", "#m", "ü€", "%n {o}"]
"""Arguments that a shell, a scheduler's parser, or a careless provider would change."""


class Backend(ABC):
    """A provider's class and what it runs on, as far as the suite must know.

    Attributes:
        seconds: How long to wait for anything, at most.
        walltime: Whether jobs can be given a walltime, after which they are ended.
        cancelled: The states of a job that was cancelled.
        killed: The state of a job that was killed by a signal; some schedulers cannot tell that from a cancel.
    """

    seconds: float = 20.0
    walltime: bool = True
    cancelled: tuple[JobState, ...] = (JobState.CANCELLED,)
    killed: JobState = JobState.FAILED

    @abstractmethod
    def provider(self, **options: Any) -> ExecutionProvider:
        """A provider, with ``script_dir`` set to a directory that may not be there yet.

        Args:
            options: ``max_blocks``, ``launcher``, ``worker_init`` and others, with the meaning that they always have.
                Whatever else the provider needs is for you to give.
        """

    def provider_with_walltime(self) -> ExecutionProvider:
        """A provider whose jobs are ended within seconds; only if ``walltime`` is true."""
        raise NotImplementedError

    @abstractmethod
    def start_foreign(self) -> Callable[[], bool]:
        """Start a job, by other means than the provider, that lasts for minutes; asks whether it still lives."""

    def processes(self, text: str) -> int:
        """How many processes of jobs there are whose command line ends in that text."""
        lines = [process.info["cmdline"] or [""] for process in psutil.process_iter(["cmdline"])]
        return sum(line[-1] == text for line in lines)


class ProviderSuite:
    """What every provider does, whatever it runs on."""

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        """What is tested; a subclass must say."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture named backend; see {__name__}")

    def test_constructor_touches_nothing(self, backend: Backend) -> None:
        """Making a provider opens no file, starts no process and no connection: that is for ``submit``."""
        backend.provider()  # what is imported late is imported now
        with _watched() as touched:
            made = backend.provider(max_blocks=2, worker_init="true")
        assert touched == []
        assert made.max_blocks == 2

    def test_ends_are_told_apart(self, backend: Backend) -> None:
        """Jobs end with their own exit codes, 128 + n for signal n; their output and errors can be read."""
        provider = backend.provider(worker_init="export PLANTED='x  y'")
        commands = {
            'echo "$PLANTED"; echo oops >&2': 0,
            "echo 'last words' >&2; exit 7": 7,
            "exit 255": 255,
            "kill -9 $$": 137,
        }
        jobs = [provider.submit(command, 1, f"flowlib.htex.block-{i}") for i, command in enumerate(commands)]
        assert len(set(jobs)) == len(jobs)
        ends = [wait_for_state(provider, job, seconds=backend.seconds) for job in jobs]
        assert [end.exit_code for end in ends[:3]] == list(commands.values())[:3]
        assert ends[3].exit_code in (137, None), "a scheduler may not tell"
        assert [end.state for end in ends] == [JobState.COMPLETED, JobState.FAILED, JobState.FAILED, backend.killed]
        assert ends[0].stdout_summary == "x  y\n"
        assert _text(ends[0].stderr_summary) == "oops"
        assert _text(ends[1].stderr_summary) == "last words"
        for end in ends:
            assert end.script_path is not None and os.path.exists(end.script_path), "for people who want to see it"
        assert provider.status(jobs) == ends, "an end is for good"

    def test_answers_are_in_order(self, backend: Backend) -> None:
        """There is an answer for each id, in order, also for ids given twice and for those that nobody knows."""
        provider = backend.provider()
        good, bad = provider.submit("true", 1), provider.submit("exit 3", 1)
        for job in (good, bad):
            wait_for_state(provider, job, seconds=backend.seconds)
        found = [status.state for status in provider.status([bad, "no-such-job", good, bad])]
        assert found == [JobState.FAILED, JobState.MISSING, JobState.COMPLETED, JobState.FAILED]
        assert provider.status([]) == []
        assert provider.cancel([]) == []

    def test_cancel(self, backend: Backend) -> None:
        """A cancelled job ends, with everything that it started; an ended or unknown one does no harm."""
        provider = backend.provider()
        done = provider.submit("true", 1)
        mark = f"1000.{secrets.randbelow(10**9)}"
        running = provider.submit(f"sleep {mark} & sleep {mark}; sleep 1000", 1)
        wait_for_state(provider, done, seconds=backend.seconds)
        wait_for_state(provider, running, JobState.RUNNING, seconds=backend.seconds)
        wait_until(lambda: backend.processes(mark) == 2, backend.seconds)
        accepted = provider.cancel([done, running, "no-such-job"])
        assert accepted[1:] == [True, False]
        end = wait_for_state(provider, running, seconds=backend.seconds)
        assert end.state in backend.cancelled
        wait_until(lambda: backend.processes(mark) == 0, backend.seconds)
        assert status_of(provider, done).state is JobState.COMPLETED
        provider.cancel([running])
        assert status_of(provider, running) == end

    def test_foreign_jobs(self, backend: Backend) -> None:
        """Jobs that others started are neither known nor ended."""
        lives = backend.start_foreign()
        provider = backend.provider()
        job = provider.submit("sleep 1000", 1)
        wait_for_state(provider, job, JobState.RUNNING, seconds=backend.seconds)
        assert set(provider.resources) == {job}
        assert provider.cancel(list(provider.resources)) == [True]
        wait_for_state(provider, job, *backend.cancelled, seconds=backend.seconds)
        assert lives()

    def test_walltime(self, backend: Backend) -> None:
        """A job over its walltime is ended, and that is said; where jobs have none, the provider says so."""
        if not backend.walltime:
            assert backend.provider().walltime_s is None
            return
        provider = backend.provider_with_walltime()
        job = provider.submit("sleep 1000", 1)
        assert wait_for_state(provider, job, seconds=backend.seconds + 60).state is JobState.TIMEOUT

    def test_quoting(self, backend: Backend) -> None:
        """The command reaches the shell of the job as it is, in several lines too."""
        provider = backend.provider()
        words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in _ODD)
        job = provider.submit(f"printf '%s\\n' {words}\necho end", 1, "a job/with 'odd' name")
        end = wait_for_state(provider, job, seconds=backend.seconds)
        assert (end.stdout_summary or "").splitlines() == [*_ODD, "end"]

    def test_names(self, backend: Backend) -> None:
        """A job knows its name; jobs that are given the same one keep their scripts and output apart."""
        provider = backend.provider()
        jobs = [provider.submit(f'echo {i} "$JOBNAME"', 1, "block") for i in range(2)]
        ends = [wait_for_state(provider, job, seconds=backend.seconds) for job in jobs]
        for i, end in enumerate(ends):
            number, name = (end.stdout_summary or "").split()
            assert number == str(i)
            assert name.startswith("block")
        assert len({end.script_path for end in ends}) == len({end.stdout_path for end in ends}) == 2

    def test_copies(self, backend: Backend) -> None:
        """The launcher is told how many copies each node gets, and its text is what runs."""
        from flowlib.launchers import SingleNodeLauncher

        provider = backend.provider(launcher=SingleNodeLauncher())
        job = provider.submit("echo copy", 2)
        assert (wait_for_state(provider, job, seconds=backend.seconds).stdout_summary or "") == "copy\n" * 2

    def test_shown_script(self, backend: Backend) -> None:
        """``render_script`` shows what would run, and does nothing."""
        provider = backend.provider(worker_init="export PLANTED=tree")
        with _watched() as touched:
            text = provider.render_script("my-manager --now", 1, "block")
        assert touched == []
        assert provider.resources == {}
        assert "my-manager --now" in text
        assert "export PLANTED=tree" in text

    def test_deliver(self, backend: Backend) -> None:
        """Files that are delivered can be read by the job, and by nobody but its owner."""
        provider = backend.provider()
        directory = provider.deliver({"key": b"secret\n", "more": b"\0\xff"}, "job")
        provider.deliver({"key": b"other\n"}, "other")
        job = provider.submit(
            f'cat "{directory}/key"; stat -c %a "{directory}" "{directory}/key"; cat "{directory}/more" | wc -c',
            1,
            "job",
        )
        end = wait_for_state(provider, job, seconds=backend.seconds)
        assert (end.stdout_summary or "").split() == ["secret", "700", "600", "2"]
        for name in ("../key", "a/b", ""):
            with pytest.raises(ValueError, match="plain file names"):
                provider.deliver({name: b""}, "job")

    def test_wrong_numbers(self, backend: Backend) -> None:
        """Numbers that make no sense are refused at once, by the parameter's name."""
        for name, value in (
            ("nodes_per_block", 0), ("init_blocks", -1), ("min_blocks", 1.5), ("max_blocks", "many"),
            ("parallelism", 2), ("parallelism", -0.5),
        ):  # fmt: skip
            with pytest.raises(ConfigurationError, match=name):
                backend.provider(**{name: value})


def _text(summary: str | None) -> str:
    return (summary or "").strip()


_TOUCHES = ("open", "socket.", "subprocess.", "os.mkdir", "os.remove", "os.posix_spawn", "os.exec", "os.system")
_touched: list[list[str]] = []
_hooked = False


@contextmanager
def _watched() -> Iterator[list[str]]:
    """What this thread touches of the world, as Python's audit events tell it."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    found: list[str] = []
    _touched.append(found)
    try:
        yield found
    finally:
        _touched.remove(found)


def _audit(event: str, args: tuple[object, ...]) -> None:
    if _touched and event.startswith(_TOUCHES) and not (event == "open" and str(args[0]).endswith((".py", ".pyc"))):
        for found in _touched:
            found.append(f"{event} {args[:2]}")


__all__ = ["Backend", "JobStatus", "ProviderSuite"]
