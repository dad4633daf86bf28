"""Exceptions come back as themselves or as an error that says all that was known of them."""

from __future__ import annotations

import builtins
import inspect
import os
import pickle
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

from flowlib import errors
from flowlib.executors.high_throughput.messages import Status
from flowlib.serialize import execute as execution
from flowlib.serialize.arguments import dump_call
from flowlib.serialize.envelope import (
    Failure,
    RemoteExceptionWrapper,
    RemoteTraceback,
    capture,
    decode_failure,
    encode_failure,
    rebuild,
)

from .remote import Remote


class Two(Exception):
    """Cannot be rebuilt from its args by its own __init__."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"needs {a} and {b}")
        self.a = a


class Doubling(Exception):
    """Its own __init__ would change its text each time."""

    def __init__(self, text: str, extra: int = 0) -> None:
        super().__init__(f"<{text}>")


class Locked(Exception):
    """Carries what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class BadReduce(Exception):
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle of me")


class ExitingReduce(Exception):
    """Ends the process that pickles it."""

    def __reduce__(self) -> Any:
        raise SystemExit(9)


class ExitsLater(Exception):
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (9,)


class NoText(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise SystemExit(1)


def round_trip(error: BaseException) -> BaseException:
    """What the driver makes of an exception that a worker caught."""
    try:
        raise error
    except BaseException as e:
        return rebuild(decode_failure(encode_failure(capture(e, host="node7", worker=2, log="/w.log"))))


EXAMPLES: dict[str, tuple[Any, ...]] = {
    "OptionalModuleMissing": (["paramiko"], "SSH needs it"),
    "BashExitFailure": ("app", 3, "false", "tail", "out", "err", "host", "/dir"),
    "RemoteError": ("m.T", "text", "tb", "why"),
    "MissingOutputs": ("gone", ["a", "b"]),
    "PropagatedException": ([(ValueError("v"), "task 1")], 2),
    "DependencyError": ([(ValueError("v"), "task 1")], 2),
    "JoinError": ([(ValueError("v"), None)], 2),
    "ExecutorError": ("htex", "why"),
    "BadStateException": ("htex", ValueError("v")),
    "UnsupportedFeatureError": ("feature", "threads", "htex"),
    "InvalidResourceSpecification": (["cores"], "no"),
    "ScalingFailed": ("htex", "why"),
    "InterchangeLost": ("htex", "why"),
    "VersionMismatch": ("3.11", "3.12"),
    "SerializationError": ("app", "why"),
    "ScaleOutFailed": ("slurm", "why"),
    "SubmitException": ("job", "text", "out", "err", 1),
    "SchedulerMissingArgs": ("account", "site"),
    "ScriptPathError": ("/p", "why"),
}
CLASSES = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.FlowlibError)]


def example(kind: type[errors.FlowlibError]) -> errors.FlowlibError:
    """An instance of a class of errors."""
    if kind.__name__ in EXAMPLES:
        return kind(*EXAMPLES[kind.__name__])
    try:
        parameters = inspect.signature(kind).parameters.values()
    except ValueError:
        return kind("x")
    return kind(*["x"] * max(1, sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda k: k.__name__)
def test_every_flowlib_error_travels(kind: type[errors.FlowlibError]) -> None:
    """Each class of flowlib.errors survives pickle and the envelope with text and attributes."""
    error = example(kind)
    for back in (pickle.loads(pickle.dumps(error)), round_trip(error)):
        assert type(back) is kind
        assert str(back) == str(error)
        assert vars(back).keys() == vars(error).keys()


def test_cause_context_and_notes() -> None:
    """Causes and contexts come back as exceptions, notes as notes, and the remote traceback is the last cause."""

    def fail() -> None:
        try:
            try:
                {}["k"]
            except KeyError:
                raise OSError(2, "no", "file")  # noqa: B904
        except OSError as e:
            error = Two(1, 2)
            if sys.version_info >= (3, 11):
                error.add_note("a note")
            raise error from e

    try:
        fail()
    except Two as e:
        back = rebuild(capture(e, host="node7", worker=2, log="/w.log"))
    assert type(back) is Two
    assert back.a == 1
    assert isinstance(back.__cause__, OSError)
    assert back.__cause__.filename == "file"
    assert isinstance(back.__cause__.__context__, KeyError)
    last = back.__cause__.__cause__
    assert isinstance(last, RemoteTraceback)
    assert (last.host, last.worker, last.log) == ("node7", 2, "/w.log")
    printed = "".join(traceback.format_exception(back))
    assert "in fail" in printed
    assert "node7" in printed
    if sys.version_info >= (3, 11):
        assert back.__notes__ == ["a note"]


@pytest.mark.parametrize("error", [Two(1, 2), Doubling("x"), ValueError("v"), SystemExit(3), UnicodeDecodeError("a", b"b", 0, 1, "c"), OSError(2, "m")], ids=lambda e: type(e).__name__)  # fmt: skip
def test_comes_back_as_itself(error: BaseException) -> None:
    """Class, args, attributes and text are kept, whatever the class's __init__ takes."""
    back = round_trip(error)
    assert type(back) is type(error)
    assert (back.args, str(back)) == (error.args, str(error))
    assert vars(back) == vars(error)


@pytest.mark.parametrize("error", [Locked(), BadReduce("b"), ExitingReduce("e"), ExitsLater("l"), NoText()], ids=lambda e: type(e).__name__)  # fmt: skip
def test_what_cannot_come_back_is_told(error: Exception) -> None:
    """A RemoteError names class, text, reason and traceback of an exception that cannot be rebuilt."""
    back = round_trip(error)
    assert type(back) is errors.RemoteError
    assert back.type_name.endswith(type(error).__name__)
    assert "round_trip" in back.traceback
    if not isinstance(error, NoText):
        assert back.message == str(error)
    assert isinstance(back.__cause__, RemoteTraceback)


def test_bad_cause_spares_the_error() -> None:
    """An exception whose cause cannot be pickled comes back as itself, its cause as a RemoteError."""
    error = ValueError("outer")
    error.__cause__ = Locked()
    back = round_trip(error)
    assert type(back) is ValueError
    assert isinstance(back.__cause__, errors.RemoteError)
    assert isinstance(back.__cause__.__cause__, RemoteTraceback)


def test_exception_group() -> None:
    """Exception groups come back with their members."""
    if sys.version_info < (3, 11):
        pytest.skip("exception groups came with 3.11")
    back: Any = round_trip(builtins.ExceptionGroup("g", [ValueError("v"), Two(1, 2)]))
    assert type(back).__name__ == "ExceptionGroup"
    assert [type(e) for e in back.exceptions] == [ValueError, Two]


def test_failure_written_by_a_manager() -> None:
    """An error class of flowlib named with its arguments is rebuilt as such; unknown ones keep their text."""
    lost = rebuild(Failure("flowlib.errors.WorkerLost", "m", arguments=[3, "node7", "killed by SIGKILL", "/w.log"]))
    assert isinstance(lost, errors.WorkerLost)
    assert "SIGKILL" in str(lost)
    for name in ("flowlib.errors.NoSuch", "flowlib.errors.Any", "os.abort"):
        back = rebuild(Failure(name, "text", arguments=[1]))
        assert isinstance(back, errors.RemoteError)
        assert back.message == "text"
    assert isinstance(rebuild(Failure("flowlib.errors.WorkerLost", "m", arguments=[])), errors.RemoteError)


def test_damaged_pickle_of_one_link() -> None:
    """An exception that can be rebuilt in the worker but not in the driver becomes a RemoteError there."""
    failure = capture(ValueError("v"))
    failure.pickled = pickle.dumps([(b"\x80\x05garbage", "m.T", "text", "", -1, -1, False)])
    back = rebuild(failure)
    assert isinstance(back, errors.RemoteError)
    assert back.message == "text"


def test_long_texts_are_cut() -> None:
    """A text of megabytes is cut in the parts that everybody on the way reads."""
    failure = capture(ValueError("x" * 3_000_000))
    assert len(failure.message) < 300_000
    assert "left out" in failure.message
    assert len(str(rebuild(failure))) == 3_000_000


def test_wrapper() -> None:
    """RemoteExceptionWrapper raises what it holds, with its cause, also after a journey."""
    try:
        raise ValueError("v") from KeyError("k")
    except ValueError as e:
        wrapper = RemoteExceptionWrapper(type(e), e, e.__traceback__)
    for each in (wrapper, pickle.loads(pickle.dumps(wrapper))):
        with pytest.raises(ValueError, match="v") as caught:
            each.reraise()
        assert isinstance(caught.value.__cause__, KeyError)


# --------------------------------------------------------------------------------------------------------- execute


def run(func: Any, *args: Any) -> BaseException:
    """The exception that the driver gets from a task."""
    status, payload = execution.execute(func, dump_call(args, {}))
    assert status == execution.RAISED
    return rebuild(decode_failure(payload))


def test_statuses() -> None:
    """What execute returns are statuses of the protocol."""
    assert (execution.OK, execution.RAISED) == (Status.OK, Status.RAISED)


def raising(error: BaseException) -> Any:
    """A function that raises."""

    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, type("Mine", (BaseException,), {})])
def test_ending_the_program_ends_the_task(kind: type[BaseException]) -> None:
    """Exceptions meant to end a program become AppAborted with the original as cause."""
    error = run(raising(kind("why")))
    assert isinstance(error, errors.AppAborted)
    assert isinstance(error.__cause__, kind)


def test_own_frames_are_cut() -> None:
    """The remote traceback begins in the user's function."""
    status, payload = execution.execute(raising(ValueError("v")), dump_call((), {}))
    text = decode_failure(payload).traceback
    assert status == execution.RAISED
    assert "in body" in text
    assert "calling.py" not in text
    assert "execute.py" not in text


def endless(n: int = 0) -> int:
    """Recurses for ever."""
    return endless(n + 1)


class Interrupts:
    """A value that raises KeyboardInterrupt when it is unpickled."""

    def __reduce__(self) -> Any:
        return _interrupt, ()


def _interrupt() -> None:
    raise KeyboardInterrupt


def nested(depth: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_recursion() -> None:
    """Endless recursion and results nested too deeply fail their task and say why."""
    assert isinstance(run(endless), RecursionError)
    error = run(nested, 100_000)
    assert isinstance(error, errors.SerializationError)
    assert "nested too deeply" in str(error)


def test_arguments_that_cannot_be_rebuilt() -> None:
    """Arguments that raise or exit while they are unpickled fail the task with their cause."""
    error = run(len, Interrupts())
    assert isinstance(error, errors.DeserializationError)
    assert isinstance(error.__cause__, KeyboardInterrupt)
    status, payload = execution.execute(len, b"garbage")
    assert status == execution.RAISED
    assert isinstance(rebuild(decode_failure(payload)), errors.DeserializationError)


class TimesOut:
    """A value whose pickling is interrupted by the end of the walltime."""

    def __reduce__(self) -> Any:
        raise errors.AppTimeout("walltime")


def test_walltime_while_a_result_is_pickled() -> None:
    """A walltime that ends after the call, while its value is pickled, is told as what it is."""
    assert isinstance(run(TimesOut), errors.AppTimeout)


def test_results_that_cannot_be_sent() -> None:
    """Locks, generators and results that interrupt or exit when unpickled fail in the worker."""
    assert "Lock" in str(run(threading.Lock)) or "lock" in str(run(threading.Lock))
    assert isinstance(run(lambda: (i for i in range(3))), errors.GeneratorResult)
    assert isinstance(run(Interrupts), errors.DeserializationError)
    assert isinstance(run(lambda: ExitsLater("x")), errors.DeserializationError)


def test_place_is_told(remote: Remote) -> None:
    """A failure carries the host, the worker and its log."""
    with pytest.raises(ZeroDivisionError) as caught:
        remote.call(lambda: 1 / 0)
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert (cause.host, cause.worker, cause.log) == ("testhost", 3, "/log/of/worker")


def test_users_exceptions(remote: Remote, zoo: Any) -> None:
    """Exceptions of classes that workers cannot import are caught by those classes; local ones come back, too."""
    with pytest.raises(zoo.MyError) as caught:
        remote.call(zoo.raise_mine)
    assert caught.value.args == ("mine", 3)
    with pytest.raises(zoo.TwoArguments) as chained:
        remote.call(zoo.raise_chain)
    assert chained.value.a == 1
    assert isinstance(chained.value.__cause__, KeyError)
    with pytest.raises(Exception, match="x") as local:
        remote.call(zoo.raise_local)
    assert type(local.value).__name__ == "Local"


def test_function_that_cannot_be_imported(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function whose module the worker lacks fails with the module's name."""
    (tmp_path / "only_here.py").write_text("def f():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    with pytest.raises(errors.DeserializationError, match="only_here"):
        remote.call(only_here.f)
