"""Arguments and values: unpickled once, late, and without harm to the one who asks."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.errors import DeserializationError, GeneratorResult, SerializationError
from flowlib.serialize import plugins
from flowlib.serialize.arguments import dump_call, load_call
from flowlib.serialize.base import SerializerBase
from flowlib.serialize.values import TRIAL_LIMIT, Pickled, dump_value, load_value

from .remote import DEADLINE, ROOT, Remote

DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.just(len),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.integers())
    ),
    max_leaves=20,
)


@given(args=st.lists(DATA, max_size=4).map(tuple), kwargs=st.dictionaries(st.text(), DATA, max_size=3))
def test_calls_survive(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Arguments arrive as they were sent."""
    assert load_call(dump_call(args, kwargs)) == (args, kwargs)


@given(DATA)
def test_values_survive(value: Any) -> None:
    """Values arrive as they were returned, also through a second hop in pickled form."""
    payload = dump_value(value)
    assert Pickled(payload).value() == value
    assert load_call(dump_call((Pickled(payload),), {}))[0] == (value,)


class Counting:
    """Counts how often it is rebuilt."""

    made = 0

    def __reduce__(self) -> Any:
        return _counted, ()


def _counted() -> Counting:
    Counting.made += 1
    return Counting()


def test_unpickled_once_by_many_threads() -> None:
    """All who ask get the same object, which is made once."""
    result = Pickled(pickle.dumps(Counting(), 5))
    Counting.made = 0
    together, found = threading.Barrier(8), list[Any]()

    def ask() -> None:
        together.wait(DEADLINE)
        found.append(result.value())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert Counting.made == 1
    assert len(found) == 8
    assert len({id(f) for f in found}) == 1


def test_nothing_is_unpickled_before_it_is_asked_for() -> None:
    """Holding a result and sending it on runs nothing of it."""
    result = Pickled(pickle.dumps(Counting(), 5))
    Counting.made = 0
    payload = dump_call((result,), {})
    assert Counting.made == 0
    assert isinstance(load_call(payload)[0][0], Counting)
    assert Counting.made == 1


class Raises:
    """Does something when it is rebuilt."""

    def __init__(self, how: Any, *args: Any) -> None:
        self.how, self.args = how, args

    def __reduce__(self) -> Any:
        return self.how, self.args


def _fail() -> None:
    raise RuntimeError("from within")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Raises(_fail), "RuntimeError: from within"),
        (Raises(sys.exit, 3), "sys.exit is refused"),
        (Raises(os._exit, 3), "_exit is refused"),
        (Raises(os.abort), "abort is refused"),
        (Raises(os.kill, 0, signal.SIGKILL), "kill is refused"),
        (Raises(signal.raise_signal, signal.SIGKILL), "raise_signal is refused"),
    ],
)
def test_results_that_harm_their_reader(value: Any, text: str) -> None:
    """They fail in the worker's trial; one that gets through raises a typed error every time it is asked for."""
    with pytest.raises(DeserializationError, match=text):
        dump_value([value])
    result = Pickled(pickle.dumps(value, 5))
    for _ in range(2):
        with pytest.raises(DeserializationError, match=text):
            result.value()


def test_large_results_are_not_tried() -> None:
    """A large result is not unpickled in the worker."""
    Counting.made = 0
    payload = dump_value([Counting(), b"x" * TRIAL_LIMIT])
    assert Counting.made == 0
    assert isinstance(load_value(payload)[0], Counting)


def test_keyboard_interrupt_of_the_user_comes_through() -> None:
    """Ctrl-C while a result is unpickled in the driver stays a KeyboardInterrupt; in the worker's trial it is not."""
    payload = pickle.dumps(Raises(_interrupt), 5)
    with pytest.raises(KeyboardInterrupt):
        load_value(payload)
    with pytest.raises(DeserializationError):
        load_value(payload, trial=True)


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_unsendable_results() -> None:
    """Generators and locks are refused with what to do or where they are."""
    with pytest.raises(GeneratorResult, match="list"):
        dump_value(i for i in range(3))
    with pytest.raises(SerializationError, match=r"key 'a', item 0 of type _thread.lock"):
        dump_value({"a": [threading.Lock()]})


def test_arrays(remote: Remote) -> None:
    """Numpy arrays arrive writable and equal."""
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(100_000.0)

    def double(a: Any) -> Any:
        a *= 2
        return a

    back = remote.call(double, array)
    assert (back == numpy.arange(100_000.0) * 2).all()
    back += 1


class Reversing(SerializerBase):
    """Takes text only, and reverses it."""

    def serialize(self, data: Any) -> bytes:
        """Reverse text."""
        if data != (("abc",), {}) and data != "abc":
            raise TypeError("text only")
        return repr(data).encode()[::-1]

    def deserialize(self, body: bytes) -> Any:
        """Reverse back."""
        import ast

        return ast.literal_eval(body[::-1].decode())


def test_registered_serializer_is_asked_first(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered serializer makes the bytes of what it takes, and is found by processes that did not register it."""
    from flowlib import serialize

    monkeypatch.setattr(plugins, "data", {})
    serialize.register_method_for_data(Reversing())
    assert serialize.serialize("abc").endswith(b"'cba'")
    assert serialize.deserialize(serialize.serialize("abc")) == "abc"
    assert serialize.deserialize(serialize.serialize([1])) == [1]
    marked = plugins.MARK + Reversing().identifier + b"\n" + Reversing().serialize((("abc",), {}))
    from flowlib.serialize.functions import encode_function

    status, payload = remote.exchange(encode_function(str.upper), marked)
    assert (status, Pickled(payload).value()) == (0, "ABC")


def test_unknown_serializer_is_named() -> None:
    """Bytes of a serializer that is nowhere raise an error that names it."""
    with pytest.raises(DeserializationError, match="no_such_module Nothing"):
        plugins.load(plugins.MARK + b"no_such_module Nothing\nxyz")


def test_messages_of_the_usual_face() -> None:
    """The pack and unpack helpers invert each other."""
    from flowlib import serialize

    func, args, kwargs = serialize.unpack_apply_message(serialize.pack_apply_message(divmod, (7, 2), {"k": [1]}))
    assert (func(*args), kwargs) == ((3, 1), {"k": [1]})
    packed = serialize.pack_res_spec_apply_message(divmod, (7, 2), {}, {"cores": 2})
    assert serialize.unpack_res_spec_apply_message(packed)[1:] == [(7, 2), {}, {"cores": 2}]
    assert serialize.unpack_buffers(serialize.pack_buffers([b"", b"ab"])) == [b"", b"ab"]
    with pytest.raises(DeserializationError, match="cut off"):
        serialize.unpack_buffers(serialize.pack_buffers([b"abc"])[:-1])


def test_imports_stay_light() -> None:
    """What a worker imports before its first task does not include dill, numpy, zmq, asyncio or typeguard."""
    code = (
        "import sys, flowlib.serialize.execute, flowlib.executors.high_throughput.messages\n"
        "print([m for m in ('dill', 'numpy', 'zmq', 'asyncio', 'typeguard', 'psutil', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, cwd=ROOT, check=True
    )
    assert done.stdout == "[]\n"
    light = "import sys, flowlib.serialize, flowlib.serialize.remote; print('msgspec' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", light], capture_output=True, text=True, timeout=DEADLINE, cwd=ROOT, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("value", [1, 2.5, "text", b"bytes", True, None])
def test_small_results_travel_on_as_values(value: object) -> None:
    """As arguments of a call they need no code to be rebuilt, whether or not anybody has asked for them."""
    for asked in (False, True):
        result = Pickled(dump_value(value))
        if asked:
            result.value()
        assert dump_call((result, 3), {}) == dump_call((value, 3), {})


@pytest.mark.parametrize("value", [[1], {"a": 1}, "long" * 2000, Path("x"), (1, 2)])
def test_other_results_travel_on_as_they_are(value: object) -> None:
    """The receiver rebuilds them; nothing is unpickled on the way."""
    result = Pickled(dump_value(value))
    assert result.if_plain() is result
    assert load_call(dump_call((result, 3), {"k": 1})) == ((value, 3), {"k": 1})
