"""Definitions of many kinds, as users write them in scripts: loaded by tests as a module that nobody can import.

Run as a script it calls a worker process with what ``__main__`` defines, and prints "done".
"""
# ruff: noqa: ARG004, D103, PIE796, PT017, PYI024

import abc
import collections
import dataclasses
import enum
import functools
import os.path
import sys
import threading
import typing
import xml.dom.minidom

T = typing.TypeVar("T")
UserId = typing.NewType("UserId", int)


class MyError(Exception):
    pass


class TwoArguments(Exception):
    def __init__(self, a, b):
        super().__init__(f"needs {a} and {b}")
        self.a = a


class Color(enum.Enum):
    RED = 1
    BLUE = (2, 3)
    CRIMSON = 1

    def shout(self):
        return self.name + "!"

    @classmethod
    def default(cls):
        return cls.RED


class Planet(enum.Enum):
    EARTH = (6.0, 2)

    def __init__(self, mass, moons):
        self.mass = mass
        self.moons = moons


class Label(enum.Enum):
    A = (1, "first")

    def __new__(cls, value, text):
        member = object.__new__(cls)
        member._value_ = value
        member.text = text
        return member


class Bits(enum.IntFlag):
    X = 1
    Y = 2


@dataclasses.dataclass(order=True)
class Point(typing.Generic[T]):
    x: int
    tags: list = dataclasses.field(default_factory=list)

    def twin(self):
        return Point(self.x, list(self.tags))

    @property
    def double(self):
        return 2 * self.x

    @functools.cached_property
    def triple(self):
        return 3 * self.x

    @staticmethod
    def static():
        return "static"

    @classmethod
    def origin(cls):
        return cls(0)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int = 3


class Named(typing.NamedTuple):
    q: int
    r: str = "r"

    def both(self):
        return (self.q, self.r)


Plain = collections.namedtuple("Plain", "u v")


class Base(abc.ABC):
    @abc.abstractmethod
    def work(self): ...


class Derived(Base):
    def work(self):
        return type(super()).__name__ + self.__class__.__name__


class Hooked:
    seen = []

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        Hooked.seen.append(cls.tag)


class Registered(Hooked):
    tag = "registered"


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a = 1


class Shape(typing.Protocol):
    def area(self) -> float: ...


class Movie(typing.TypedDict):
    name: str


class Meta(type):
    def __new__(mcs, name, bases, namespace, **options):
        return super().__new__(mcs, name, bases, {**namespace, "stamped": True})


class Stamped(metaclass=Meta):
    pass


class Node:
    """Two classes that know each other."""

    def leaf(self):
        return Leaf()


class Leaf(Node):
    def up(self):
        return Node()


class Box:
    limit = 1

    def __init__(self, content=None):
        self.content = content


@functools.lru_cache(maxsize=8)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.singledispatch
def describe(x):
    return "object"


@describe.register
def _describe_int(x: int):
    return "int"


def keep(f):
    @functools.wraps(f)
    def inner(*args, **kwargs):
        return f(*args, **kwargs)

    inner.marked = True
    return inner


@keep
def decorated(x):
    return x + 1


def factorial(n, *, start=1):
    return start if n == 0 else n * factorial(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


def even(n):
    return n == 0 or odd(n - 1)


def parse():
    return xml.dom.minidom.parseString("<a/>").documentElement.tagName


def base_name(path):
    return os.path.basename(path)


lock = threading.Lock()


class Holder:
    def lock(self):
        return 1


def attribute_called_like_a_global():
    return Holder().lock()


def uses_lock():
    with lock:
        return 1


def locked_closure():
    mine = threading.RLock()

    def inner():
        return mine

    return inner


def counter():
    n = 0

    def up():
        nonlocal n
        n += 1
        return n

    def get():
        return n

    return up, get


def raise_mine():
    raise MyError("mine", 3)


def raise_chain():
    try:
        {}["missing"]
    except KeyError as e:
        error = TwoArguments(1, 2)
        error.args += ()
        raise error from e


def raise_local():
    class Local(Exception):
        pass

    raise Local("x")


def make_local_class():
    class Inner:
        def hello(self):
            return "hello"

    return Inner


def echo(*args):
    return args if len(args) != 1 else args[0]


def same_class(box):
    global _seen
    try:
        return _seen is type(box)
    except NameError:
        _seen = type(box)
        return True


async def later(x):
    return x + 1


def pickled_by_hand(point):
    import pickle

    return pickle.loads(pickle.dumps(point)) == point


def main():
    from tests.serialize.remote import Remote

    remote = Remote()
    try:
        try:
            remote.call(raise_mine)
        except MyError as e:
            assert e.args == ("mine", 3)
        else:
            raise AssertionError("nothing was raised")
        assert type(remote.call(lambda: Point(4).twin())) is Point
        assert remote.call(pickled_by_hand, Point(1)) is True
        assert remote.call(echo, Color.BLUE) is Color.BLUE
        assert remote.call(lambda: __name__) == "__main__"
        assert remote.call(factorial, 5) == 120
    finally:
        remote.close()
    print("done")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    main()
