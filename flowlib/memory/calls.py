"""The key of a call: what is called, with what.

A call's key is made for every task with ``cache=True`` before it is launched, so the way for small arguments is short;
what is needed to tell later why two keys differ is worked out only for calls that were not remembered.
"""

from __future__ import annotations

import hashlib
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from flowlib.errors import UnkeyableError
from flowlib.memory.canonical import Canon, Out
from flowlib.memory.code import Components, combined, components_of, label
from flowlib.memory.values import HOOKS, Files

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord

FORMAT = b"1"
"""Changes when keys are made otherwise."""
_SHORT = 8
_MISSING = object()


class Identity(NamedTuple):
    """An app, as far as it makes a difference to its values.

    Attributes:
        name: Module and name.
        digest: 32 bytes for all.
        components: What it is made of, by name.
    """

    name: str
    digest: bytes
    components: Components


class Call(NamedTuple):
    """A call that has a key.

    Attributes:
        key: 32 bytes.
        identity: What is called.
        arguments: A short digest of each argument, by name.
    """

    key: bytes
    identity: Identity
    arguments: dict[str, bytes]


class Keys:
    """Makes keys of calls.

    An app's identity is made once per process: a function that is changed while the script runs is another object.

    Args:
        files: How files among arguments count.
    """

    def __init__(self, files: Files | None = None) -> None:
        self._files = files if files is not None else Files()
        self._canon = Canon((*HOOKS, self._files.content))
        self._outputs = Canon((*HOOKS, self._files.place))
        self._identities: dict[tuple[Any, ...], tuple[Any, Identity, tuple[Any, ...]]] = {}

    def identity(self, func: Any, version: str | int | None) -> Identity:
        """What a function is, by its version if it has one."""
        return self._known(func, version)[1]

    def digest(self, value: Any, output: bool = False) -> bytes:
        """32 bytes that stand for a value.

        Args:
            value: The value.
            output: Whether files in it count by where they are.

        Raises:
            UnkeyableError: Something in it has no key.
        """
        return (self._outputs if output else self._canon).digest(value)

    def key(self, task: TaskRecord) -> tuple[bytes, list[tuple[str, int]], Out]:
        """The key of a call, and what ``parts`` needs.

        Raises:
            UnkeyableError: An argument has no key.
        """
        _, identity, (names, defaults, rest) = self._known(task.app.func, task.options.version)
        args, kwargs, ignored = task.args, task.kwargs, task.options.ignore_for_cache
        canon = self._canon
        out: Out = [identity.digest]
        marks: list[tuple[str, int]] = []
        count = len(args)
        known = names[:count] if count <= len(names) else names
        for i, name in enumerate(known):
            if not ignored or name not in ignored:
                marks.append((name, len(out)))
                out.append(name.encode())
                canon.encode(args[i], out, f"args[{i}]")
                # A default that is given counts as one that is not; what it is counts with the code.
                if name in defaults and out[marks[-1][1] + 1 :] == defaults[name]:
                    del out[marks.pop()[1] :]
        if count > len(known):
            for i in range(len(known), count):
                marks.append((f"args[{i}]", len(out)))
                out.append(b"*")
                canon.encode(args[i], out, f"args[{i}]")
        if kwargs or len(known) < len(names):
            left = dict(kwargs)
            for name in (*names[len(known) :], *rest):
                value = left.pop(name, _MISSING)
                if value is not _MISSING and not (ignored and name in ignored) and not _automatic(task, name):
                    marks.append((name, len(out)))
                    out.append(name.encode())
                    (self._outputs if name == "outputs" else canon).encode(value, out, name)
                    if name in defaults and out[marks[-1][1] + 1 :] == defaults[name]:
                        del out[marks.pop()[1] :]
            for name in sorted(left):
                if not (ignored and name in ignored) and not _automatic(task, name):
                    marks.append((name, len(out)))
                    out.append(b"=" + name.encode())
                    (self._outputs if name == "outputs" else canon).encode(left[name], out, name)
        return hashlib.sha256(b"".join(out)).digest(), marks, out

    def parts(self, task: TaskRecord, key: bytes, marks: list[tuple[str, int]], out: Out) -> Call:
        """The call with what its key is made of."""
        arguments: dict[str, bytes] = {}
        for i, (name, start) in enumerate(marks):
            end = marks[i + 1][1] if i + 1 < len(marks) else len(out)
            part = b"".join(out[start:end])
            arguments[name] = part if len(part) <= _SHORT else hashlib.sha256(part).digest()[:_SHORT]
        return Call(key, self._known(task.app.func, task.options.version)[1], arguments)

    def _known(self, func: Any, version: str | int | None) -> tuple[Any, Identity, tuple[Any, ...]]:
        cached = self._identities.get((id(func), version))
        if cached is None or cached[0] is not func:
            names, defaults, rest = _parameters(func)
            cached = func, self._identify(func, version), (names, self._encoded(defaults), rest)
            self._identities[id(func), version] = cached
        return cached

    def _encoded(self, defaults: dict[str, Any]) -> dict[str, Out]:
        found: dict[str, Out] = {}
        for name, value in defaults.items():
            out: Out = []
            try:
                self._canon.encode(value, out, name)
            except UnkeyableError:
                # A call that leaves it out has a key all the same.
                continue
            found[name] = out
        return found

    def _identify(self, func: Any, version: str | int | None) -> Identity:
        name = label(func)
        if version is None:
            components = components_of(func, self._canon)
        else:
            components = {"version": self._canon.digest(version)[:_SHORT]}
        digest = hashlib.sha256(FORMAT + name.encode() + b"\0" + combined(components)).digest()
        return Identity(name, digest, components)


def _automatic(task: TaskRecord, name: str) -> bool:
    """Whether this is a stream that goes where flowlib says, which does not matter to the value."""
    return name in ("stdout", "stderr") and task.rare is not None and name in task.rare.automatic


def _parameters(func: Any) -> tuple[tuple[str, ...], dict[str, Any], tuple[str, ...]]:
    """Names that positional arguments can have, defaults, and names that only keywords can have.

    So that ``f(1)``, ``f(x=1)`` and, where 1 is the default, ``f()`` are one call.
    """
    if not isinstance(func, types.FunctionType) or func.__code__.co_posonlyargcount or hasattr(func, "__wrapped__"):
        return (), {}, ()
    code = func.__code__
    names = code.co_varnames[: code.co_argcount]
    rest = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    values = func.__defaults__ or ()
    defaults = dict(zip(names[len(names) - len(values) :], values, strict=True))
    defaults.update(func.__kwdefaults__ or {})
    # Where a stream goes by default, and what files a call makes by default, is given by the call's own arguments.
    for special in ("stdout", "stderr", "inputs", "outputs", "walltime"):
        defaults.pop(special, None)
    return names, defaults, rest
