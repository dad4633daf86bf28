"""Sections that Ctrl-C does not cut in half."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from flowlib.dataflow.shield import SHIELD, ShieldedLock


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """Python's own handler, also where the tests run in the background and SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_interrupt_comes_at_the_end() -> None:
    """Once, however often it was asked for and however deep the section is."""
    lock, steps = ShieldedLock(), []
    with pytest.raises(KeyboardInterrupt), SHIELD:
        for step in range(3):
            with lock:
                os.kill(os.getpid(), signal.SIGINT)
                steps.append(step)
    assert steps == [0, 1, 2]
    with SHIELD:
        pass


def test_an_error_within_is_the_context_of_the_interrupt() -> None:
    """Neither hides the other."""
    with pytest.raises(KeyboardInterrupt) as caught, SHIELD:
        signal.raise_signal(signal.SIGINT)
        raise ValueError("within")
    assert isinstance(caught.value.__context__, ValueError)


def test_own_handlers_are_called_and_kept() -> None:
    """A program with a handler of its own sees its signal, after the section; one that ignores it is left alone."""
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        seen.append(number)

    signal.signal(signal.SIGINT, handler)
    with SHIELD:
        signal.raise_signal(signal.SIGINT)
        assert not seen
    assert seen == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with SHIELD:
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_hold_no_shield() -> None:
    """A section in another thread delays no interrupt of the main thread."""
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with SHIELD:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    leave.set()
    thread.join(10)
