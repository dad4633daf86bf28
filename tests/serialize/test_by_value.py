"""Functions and classes that workers cannot import arrive whole, and are one class in every process."""

from __future__ import annotations

import dataclasses
import functools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowlib.errors import SerializationError
from flowlib.serialize.arguments import dump_call, load_call
from flowlib.serialize.functions import decode_function, encode_function
from flowlib.serialize.importable import importable, reference

from .remote import DEADLINE, ROOT, Remote


def in_importable_module(x: int) -> int:
    """A function that travels by name."""
    return x + 1


def _keep(f: Any) -> Any:
    @functools.wraps(f)
    def inner(*args: Any) -> Any:
        return -f(*args)

    return inner


@_keep
def wrapped(x: int) -> int:
    """A function behind a decorator."""
    return x


def test_rule() -> None:
    """Standard, tested and flowlib's own modules are importable; __main__ and made-up ones are not."""
    assert all(map(importable, ("os", "os.path", "sys", "json.decoder", "flowlib.errors", __name__)))
    assert not any(map(importable, ("__main__", "no.such", "notebook")))


def test_importable_function_travels_by_name(remote: Remote) -> None:
    """Its body is the name only, also for what hides behind a decorator."""
    body = encode_function(in_importable_module)
    assert len(body) < 120
    assert decode_function(body) is in_importable_module
    inner = wrapped.__wrapped__
    assert reference(inner) == 1
    assert decode_function(encode_function(inner)) is inner
    assert remote.call(inner, 3) == 3
    assert remote.call(wrapped, 3) == -3


CASES: list[tuple[str, tuple[Any, ...], Any]] = [
    ("fibonacci", (20,), 6765),
    ("describe", (3,), "int"),
    ("describe", ("s",), "object"),
    ("decorated", (1,), 2),
    ("factorial", (5,), 120),
    ("even", (7,), False),
    ("parse", (), "a"),
    ("base_name", ("/a/b",), "b"),
    ("attribute_called_like_a_global", (), 1),
    ("later", (1,), 2),
]


@pytest.mark.parametrize(("name", "args", "value"), CASES, ids=lambda c: c if isinstance(c, str) else "")
def test_functions(remote: Remote, zoo: Any, name: str, args: tuple[Any, ...], value: Any) -> None:
    """Globals, submodules, recursion, decorators and caches work as where they were written."""
    assert remote.call(getattr(zoo, name), *args) == value


def test_other_callables(remote: Remote, zoo: Any) -> None:
    """Lambdas, closures, partials, bound methods, built-ins and callable objects are functions like others."""
    offset = 2

    class Adder:
        def __call__(self, x: int) -> int:
            return x + offset

    assert remote.call(lambda x: x + offset, 3) == 5
    assert remote.call(functools.partial(lambda a, b: a - b, 5), 3) == 2
    assert remote.call(functools.partial(in_importable_module, 5)) == 6
    assert remote.call(zoo.Point(7).twin).x == 7
    assert remote.call(zoo.Point.origin).x == 0
    assert remote.call(zoo.Point.static) == "static"
    assert remote.call(Adder(), 1) == 3
    assert remote.call(len, [1, 2]) == 2
    assert remote.call(math.hypot, 3, 4) == 5
    assert remote.call("a-b".split, "-") == ["a", "b"]
    assert remote.call(lambda f: f(3), lambda x: x * offset) == 6


def test_shared_cells(remote: Remote, zoo: Any) -> None:
    """Closures that share a variable share it there, too."""
    assert remote.call(lambda pair: (pair[0](), pair[0](), pair[1]()), zoo.counter()) == (1, 2, 2)


def test_function_keeps_its_face(zoo: Any) -> None:
    """Name, qualified name, module, documentation, defaults, annotations and attributes are kept."""

    def f(a: int, b: str = "x", *, c: float = 1.5) -> list[int]:
        """Text."""
        return []

    f.mark = [1]  # type: ignore[attr-defined]
    g: Any = decode_function(encode_function(f))
    assert g is not f
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "mark"):
        assert getattr(g, name) == getattr(f, name)
    assert g.__annotations__ == f.__annotations__


def test_equal_functions_have_equal_bodies(zoo: Any) -> None:
    """Encoding twice gives the same bytes, so that a body is sent once."""
    for f in (zoo.factorial, zoo.Point.twin, zoo.decorated, zoo.raise_chain):
        assert encode_function(f) == encode_function(f)


@pytest.mark.parametrize(
    "make",
    [
        lambda z: z.Color.BLUE,
        lambda z: z.Planet.EARTH,
        lambda z: z.Label.A,
        lambda z: z.Bits.X | z.Bits.Y,
        lambda z: z.Point(1, ["t"]),
        lambda z: z.Frozen(4),
        lambda z: z.Named(1),
        lambda z: z.Plain(1, 2),
        lambda z: z.Movie(name="m"),
        lambda z: z.UserId(3),
        lambda z: {z.Color.RED: [z.Frozen(1)]},
        lambda z: z.Point,
        lambda z: z.Shape,
        lambda z: z.T,
        lambda z: (z.make_local_class(),),
    ],
)
def test_values_come_back_as_they_went(remote: Remote, zoo: Any, make: Any) -> None:
    """An instance sent and returned is equal to the original and of the driver's own class."""
    value = make(zoo)
    back = remote.call(zoo.echo, value)
    assert back == value
    assert type(back) is type(value)


def test_enum_members_are_identical(remote: Remote, zoo: Any) -> None:
    """Members of an enumeration stay singletons, aliases and attributes included."""
    assert remote.call(zoo.echo, zoo.Color.CRIMSON) is zoo.Color.RED
    assert remote.call(lambda c: (c.shout(), c.default() is type(c).RED, type(c).CRIMSON.name), zoo.Color.BLUE) == (
        "BLUE!",
        True,
        "RED",
    )
    assert remote.call(lambda p: (p.mass, p.moons), zoo.Planet.EARTH) == (6.0, 2)
    assert remote.call(lambda m: (m.value, m.text), zoo.Label.A) == (1, "first")


def test_classes_work_there(remote: Remote, zoo: Any) -> None:
    """Dataclasses, abstract classes, slots, metaclasses, hooks and cycles behave there as here."""

    def body(point: Any, derived: Any, slotted: Any, registered: Any, stamped: Any, node: Any, named: Any) -> Any:
        assert point.twin() == point
        assert isinstance(point.twin(), type(point))
        assert (point.double, point.triple, point.static()) == (2, 3, "static")
        assert [f.name for f in dataclasses.fields(point)] == ["x", "tags"]
        assert point.tags is not type(point)(1).tags
        assert derived.work() == "superDerived"
        assert not hasattr(slotted, "__dict__")
        assert registered.tag == "registered"
        assert stamped.stamped
        assert isinstance(node.leaf().up(), type(node))
        assert named.both() == (1, "r")
        try:
            type(derived).__base__()
        except TypeError as e:
            return str(e)
        return None

    text = remote.call(
        body, zoo.Point(1), zoo.Derived(), zoo.Slotted(), zoo.Registered, zoo.Stamped, zoo.Node(), zoo.Named(1)
    )
    assert "abstract" in text


def test_one_class_in_all_tasks(remote: Remote, zoo: Any) -> None:
    """The class of an argument is the same object in every task of a worker."""
    assert all(remote.call(zoo.same_class, zoo.Box(i)) for i in range(3))


def test_changed_class_is_sent_again(remote: Remote, zoo: Any) -> None:
    """An attribute that the user sets later is seen by later tasks."""
    assert remote.call(lambda box: box.limit, zoo.Box()) == 1
    zoo.Box.limit = 2
    try:
        assert remote.call(lambda box: box.limit, zoo.Box()) == 2
    finally:
        zoo.Box.limit = 1


def test_class_made_by_a_task(remote: Remote, zoo: Any) -> None:
    """A class that exists in the worker only comes back by value and can be sent on."""
    made = remote.call(zoo.make_local_class)
    assert made().hello() == "hello"
    other = Remote()
    try:
        assert type(other.call(zoo.echo, made())) is made
    finally:
        other.close()


def test_pickled_result_passes_unopened(remote: Remote, zoo: Any) -> None:
    """A result given to another worker is not unpickled on the way, and that worker gets the classes it needs."""
    other = Remote()
    try:
        result = remote.send(zoo.echo, zoo.Point(5))
        assert other.call(lambda p: p.twin().x, result) == 5
        assert result.payload is not None
        assert other.call(lambda d: d["k"].x, {"k": result}) == 5
        mine = result.value()
        assert type(mine) is zoo.Point
        mine.x = 6
        assert other.call(lambda p: p.x, result) == 6
    finally:
        other.close()


def test_dict_views(remote: Remote) -> None:
    """Views of dicts arrive as views."""
    assert list(remote.call(lambda d: d.keys(), {"a": 1})) == ["a"]
    assert load_call(dump_call(({1: 2}.items(),), {}))[0][0] == {1: 2}.items()


def test_main_script() -> None:
    """What a script defines works in both directions: except MyError, isinstance, pickling inside the task."""
    script = Path(__file__).with_name("zoo.py")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=DEADLINE, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda z: z.uses_lock, "global 'lock' of type _thread.lock"),
        (lambda z: z.locked_closure(), "closure variable 'mine' of type _thread.RLock"),
        (lambda z: functools.partial(z.echo, z.lock), "argument 0 of type _thread.lock"),
        (lambda z: z.Box({"k": [z.lock]}).__init__, "attribute 'content', key 'k', item 0 of type _thread.lock"),
    ],
)
def test_unsendable_functions_are_explained(zoo: Any, make: Any, part: str) -> None:
    """The error names the app and the part that cannot be sent."""
    with pytest.raises(SerializationError) as caught:
        encode_function(make(zoo), "my_app")
    assert "my_app" in str(caught.value)
    assert part in str(caught.value)


def test_unsendable_arguments_are_explained(zoo: Any) -> None:
    """The error names the app, the argument and the path into it; a future gets a hint."""
    from concurrent.futures import Future

    with pytest.raises(SerializationError, match=r"my_app.*argument 'k', key 1, item 0 of type _thread.lock"):
        dump_call((), {"k": {1: [zoo.lock]}}, "my_app")
    with pytest.raises(SerializationError, match=r"argument 0, attribute 'content' is a future .*pass its result\(\)"):
        dump_call((zoo.Box(Future()),), {})


def test_unsendable_module(zoo: Any) -> None:
    """A module that exists in memory only is refused by name."""
    with pytest.raises(SerializationError, match=r"notebook.*this process only"):
        dump_call((zoo,), {})
