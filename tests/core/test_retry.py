"""Who pays for a failure, and when the money is gone; how long to wait; what a person is told."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowlib
from flowlib.config import Config
from flowlib.dataflow.outcomes import Blame, Failed, annotate
from flowlib.dataflow.retry import Cause, Retry, cause_of, first_set, may_retry, more_memory
from flowlib.dataflow.tries import Try, avoided, told
from flowlib.errors import AppTimeout, ConfigurationError, ManagerLost, OutOfMemory, TaskLost, WorkerLost


@pytest.mark.parametrize(
    ("cost", "retries", "again"), [(1, 0, False), (1, 1, True), (2, 1, False), (0.5, 0.5, True), (-1, 0, True)]
)
def test_user_budget(cost: float, retries: float, again: bool) -> None:
    """A task is tried again while its failures cost no more than its retries."""
    assert may_retry(Blame.USER, cost=cost, retries=retries, losses=9, lost_retries=0) is again


@pytest.mark.parametrize(("losses", "again"), [(1, True), (2, True), (3, False)])
def test_lost_budget(losses: int, again: bool) -> None:
    """Losses have a budget of their own, whatever the user's failures cost."""
    assert may_retry(Blame.INFRASTRUCTURE, cost=99, retries=0, losses=losses, lost_retries=2) is again


def test_refused_is_final() -> None:
    """What can never work is not tried again."""
    assert not may_retry(Blame.REFUSED, cost=0, retries=99, losses=0, lost_retries=99)


def test_precedence() -> None:
    """The first setting that is set counts, zero included; none at all is a mistake."""
    assert first_set(None, 0, 5) == 0
    assert first_set(None, None, 5) == 5
    with pytest.raises(ValueError, match="last"):
        first_set(None)


class Strange(ConnectionResetError):
    """Of a module that nobody else imports."""


@pytest.mark.parametrize(
    ("error", "blame", "cause"),
    [
        (ValueError("no"), Blame.USER, Cause.ERROR),
        (MemoryError(), Blame.USER, Cause.ERROR),
        (AppTimeout("late"), Blame.USER, Cause.TIMEOUT),
        (OutOfMemory(0, "h"), Blame.USER, Cause.OOM),
        (WorkerLost(0, "h"), Blame.USER, Cause.CRASH),
        (ManagerLost("m", "h"), Blame.INFRASTRUCTURE, Cause.LOST),
        (TaskLost("gone"), Blame.INFRASTRUCTURE, Cause.LOST),
    ],
)
def test_causes(error: Exception, blame: Blame, cause: Cause) -> None:
    """What is called a failure follows from its class and from who pays."""
    assert cause_of(blame, Failed(error, blame).kinds()) is cause


def test_errors_by_class() -> None:
    """The nearest class that is named decides; classes and names mean the same; what is not named has nothing."""
    policy = Retry({ConnectionError: 3, "OSError": 1, f"{__name__}.Unknown": 7, "EnvironmentError": 1})
    kinds = Failed(Strange()).kinds()
    assert kinds[0] == f"{__name__}.Strange"
    assert policy.allowed(Cause.ERROR, kinds) == ("builtins.ConnectionError", 3)
    assert policy.allowed(Cause.ERROR, Failed(FileNotFoundError()).kinds()) == ("builtins.OSError", 1)
    assert policy.allowed(Cause.ERROR, [f"{__name__}.Unknown", "builtins.Exception"]) == (f"{__name__}.Unknown", 7)
    assert policy.allowed(Cause.ERROR, Failed(KeyError()).kinds()) == ("error", 0)
    assert policy.allowed(Cause.CRASH, ["flowlib.errors.WorkerLost"]) == ("crash", 0)


@given(
    st.integers(0, 1000),
    st.floats(0.001, 1e4),
    st.floats(1, 10),
    st.floats(0.001, 1e4),
    st.floats(0, 1),
    st.integers(1, 2000),
)
def test_waits(task: int, first: float, factor: float, cap: float, jitter: float, failures: int) -> None:
    """A wait is never longer than the cap, never shorter than the jitter allows, and always the same."""
    policy = Retry(error=1, backoff=first, factor=factor, cap=cap, jitter=jitter)
    wait = policy.wait(task, failures)
    assert wait == policy.wait(task, failures)
    assert 0 <= wait <= cap
    assert wait >= min(cap, first) * (1 - jitter) * 0.999
    assert Retry(error=1).wait(task, failures) == 0


def test_waits_differ() -> None:
    """A thousand tasks that failed at one moment do not come back at one moment."""
    policy = Retry(error=1, backoff=10, jitter=0.5)
    waits = [policy.wait(n, 1) for n in range(1000)]
    assert len(set(waits)) > 990
    assert 5 <= min(waits) < 5.5
    assert 9.5 < max(waits) <= 10


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"eror": 1}, TypeError, ["'eror'", "did you mean 'error'"]),
        ({"error": -1}, ValueError, ["-1", "negative"]),
        ({"error": 1.5}, TypeError, ["1.5", "whole number"]),
        ({"error": True}, TypeError, ["True"]),
        ({"timeout": "2"}, TypeError, ["timeout", "'2'"]),
        ({"error": {"ConectionError": 1}}, ValueError, ["did you mean 'ConnectionError'", "module.Class"]),
        ({"error": {"print": 1}}, ValueError, ["'print'", "no builtin exception"]),
        ({"error": {int: 1}}, TypeError, ["classes of exceptions"]),
        ({"error": {WorkerLost: 1}}, ValueError, ["crash=1"]),
        ({"error": {"flowlib.errors.AppTimeout": 2}}, ValueError, ["timeout=2"]),
        ({"error": {OSError: -2}}, ValueError, ["-2"]),
        ({"oom": 1, "memory": "2x"}, TypeError, ["'2x'", "'x2'"]),
        ({"oom": 1, "memory": "x1"}, ValueError, ["more than 1"]),
        ({"memory": "x2"}, ValueError, ["oom="]),
        ({"backoff": "soon"}, ValueError, ["backoff", "'soon'"]),
        ({"backoff": -1}, ValueError, ["backoff", "-1"]),
        ({"factor": 0.5}, ValueError, ["factor", "1 or more"]),
        ({"jitter": 2}, ValueError, ["jitter", "from 0 to 1"]),
        ({"jitter": "much"}, TypeError, ["jitter", "'much'"]),
        ({"cap": 0}, ValueError, ["cap"]),
    ],
)
def test_mistakes(options: dict[str, Any], kind: type[Exception], words: list[str]) -> None:
    """A policy that makes no sense is refused where it is made, with what was probably meant."""
    with pytest.raises(kind) as caught:
        Retry(**options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_policies_are_values() -> None:
    """Equal ones are equal, they can be sent and shown, and nobody changes one."""
    policy = flowlib.Retry(error={OSError: 2}, oom=1, memory="x1.5", backoff=timedelta(seconds=2), cap="1m")
    assert policy == Retry({"builtins.OSError": 2}, oom=1, memory=1.5, backoff="2s", cap=60)
    assert policy != Retry({"builtins.OSError": 2}) != 3
    assert hash(policy) == hash(pickle.loads(pickle.dumps(policy)))
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert repr(Retry(2, lost=0)) == "Retry(error=2, lost=0)"
    with pytest.raises(AttributeError, match="another"):
        policy.oom = 3


def test_where_policies_may_stand() -> None:
    """In a Config and as an option; anything else there is refused, and the message names them."""
    policy = Retry(error=2)
    assert Config(retries=policy).retries is policy
    with pytest.raises(TypeError, match=r"flowlib\.Retry"):
        Config(retries="3")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="negative"):
        Config(retries=-1)
    with pytest.raises(TypeError, match=r"python_app: retries.*flowlib\.Retry"):
        flowlib.python_app(retries={"error": 1})  # type: ignore[call-overload]


def test_more_memory() -> None:
    """What it might use counts, then what it used; where neither is known nothing can be asked for."""
    assert more_memory(100, 50, 70, 2) == 200
    assert more_memory(0, 50, 70, 1.5) == 75
    assert more_memory(0, 0, 70, 2) == 140
    assert more_memory(0, 0, 0, 2) == 0


def one(n: int, cause: Cause, host: str = "", error: str = "builtins.ValueError", manager: str = "m") -> Try:
    """A failed try."""
    return Try(n, cause, error, manager, host, 0.0)


def test_history_in_words() -> None:
    """Tries are grouped by what happened; one try says nothing, nor do places that are not known."""
    assert told([]) == told([one(0, Cause.LOST, "a")]) == ""
    assert told([one(0, Cause.ERROR), one(1, Cause.ERROR)]) == "2 tries: ValueError"
    history = [one(0, Cause.OOM, "a"), one(1, Cause.ERROR, "a"), one(2, Cause.OOM, "a"), one(3, Cause.LOST, "b")]
    assert told(history) == "4 tries: out of memory 2 times on a, ValueError on a, manager lost on b"


def test_places_to_avoid() -> None:
    """All places where it failed; worth waiting for others only if more than an exception happened."""
    assert avoided([one(0, Cause.ERROR, manager="")]) == ([], False)
    assert avoided([one(0, Cause.ERROR, "a")]) == ([("m", "a")], False)
    assert avoided([one(0, Cause.CRASH, "a"), one(1, Cause.ERROR, "b", manager="n")]) == (
        [("m", "a"), ("n", "b")],
        True,
    )
    assert len(avoided([one(n, Cause.CRASH, f"h{n}") for n in range(99)])[0]) == 8


class Guarded(Exception):
    """Lets nobody change it."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AssertionError(name)


def test_notes_run_no_foreign_code() -> None:
    """A note is added to an exception whatever its class does."""
    error = Guarded("x")
    annotate(error, "first")
    annotate(error, "second")
    assert error.__notes__ == ["first", "second"]
