"""The sending side: C pickle, with a rule for what another process cannot import.

``pickle`` names functions and classes by module and qualified name.  That is right for everything importable.  The
pickler here steps in for the rest: it describes the function or class instead of naming it, and ``definitions``
rebuilds it.  Nothing is tried and retried; ``importable.reference`` decides.
"""

from __future__ import annotations

import marshal
import operator
import pickle
import sys
import types
from io import BytesIO
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from flowlib.serialize import definitions, importable, known, names

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL = 5

Reduced = Any
"""What pickle takes from a reducer: a tuple, or ``NotImplemented`` for its usual way."""

# From 3.14 on constants may be slices, which only the newest marshal format holds; version 2 gives equal code equal
# bytes, later ones depend on reference counts.
_MARSHAL = 2 if sys.version_info < (3, 14) else marshal.version


class Pickler(pickle.Pickler):
    """Pickles one object graph to a file with protocol 5.

    Attributes:
        defining: Whether functions and classes are described in place. Otherwise those that can stand alone become
            blobs of their own, which the receiver keeps.
        refer: Whether classes that came from another process are named by their token: right for results, which go
            back to where the class came from.
        objects: Takes the stored objects that are named in the pickle; None where their values go in instead.
    """

    # Attributes of the classes below, not of instances: a pickler is made for every call that is sent.
    defining = False
    refer = False
    objects: list[Any] | None = None
    _namespaces: dict[int, _Namespace] | None = None

    def reducer_override(self, obj: Any, /) -> Reduced:
        """How ``obj`` is pickled; called by pickle for everything but plain built-in data."""
        kind = type(obj)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            return handler(self, obj)
        if issubclass(kind, type):
            return _class(self, obj)
        if issubclass(kind, BaseException):
            return _exception(obj)
        module = kind.__module__
        if module in _LATE_MODULES:
            late = _LATE.get((module, kind.__name__)) or _LATE.get((module, "*"))
            if late is not None:
                return late(self, obj)
        return NotImplemented

    def namespace(self, content: dict[str, Any], name: str) -> _Namespace:
        """What stands for the globals of a module; functions that share them here share them there."""
        if self._namespaces is None:
            self._namespaces = {}
        found = self._namespaces.get(id(content))
        if found is None:
            found = self._namespaces[id(content)] = _Namespace(name)
        return found


class _Defining(Pickler):
    defining = True


class _Referring(Pickler):
    refer = True


class _DefiningReferring(Pickler):
    defining = True
    refer = True


_KINDS = {(k.defining, k.refer): k for k in (Pickler, _Defining, _Referring, _DefiningReferring)}


class _Namespace:
    """Stands for a module's globals in a pickle."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return definitions.make_namespace, (self.name,)


_ATOMS = frozenset({int, float, str, bytes, bool, type(None), complex})
_SHORT = 64


def is_plain(values: Any) -> bool:
    """Whether a collection holds only numbers, text and short lists and tuples of such, which need no rule."""
    if _ATOMS.issuperset(map(type, values)):
        return True
    for value in values:
        kind = type(value)
        if kind in _ATOMS:
            continue
        if (kind is not list and kind is not tuple) or len(value) > _SHORT or not _ATOMS.issuperset(map(type, value)):
            return False
    return True


def dumps(obj: Any, *, defining: bool = False, refer: bool = False) -> bytes:
    """Pickle ``obj``; whatever user code raises while it is pickled comes through."""
    file = BytesIO()
    _KINDS[defining, refer](file, PROTOCOL).dump(obj)
    return file.getvalue()


def dumps_apart(
    obj: Any,
    apart: Callable[[pickle.PickleBuffer], bool],
    *,
    objects: list[Any] | None = None,
    refer: bool = False,
) -> bytes:
    """Pickle ``obj`` without its large buffers.

    Args:
        obj: What to pickle.
        apart: Takes each buffer; true if it goes into the pickle all the same.
        objects: Takes the stored objects that are named in the pickle.
        refer: As for ``dumps``.
    """
    file = BytesIO()
    pickler = _KINDS[False, refer](file, PROTOCOL, buffer_callback=apart)
    pickler.objects = objects
    pickler.dump(obj)
    return file.getvalue()


def _digest(body: bytes) -> str:
    from hashlib import blake2b

    return blake2b(body, digest_size=16).hexdigest()


# ------------------------------------------------------------------------------------------------------- functions


def _function(pickler: Pickler, function: FunctionType) -> Reduced:
    steps = importable.reference(function)
    if steps == 0:
        return NotImplemented
    if steps > 0:
        return definitions.unwrapped, (function.__module__, function.__qualname__, steps)
    if not pickler.defining and function.__closure__ is None:
        body = dumps(function, defining=True, refer=pickler.refer)
        return definitions.load_function, (_digest(body), body)
    return _define_function(pickler, function)


def _define_function(pickler: Pickler, function: FunctionType) -> Reduced:
    code, cells = function.__code__, function.__closure__
    used = names.used_globals(code, function.__globals__)
    contents = []
    for cell in cells or ():
        try:
            contents.append((cell, cell.cell_contents))
        except ValueError:
            # Still empty: assigned later, or deleted.
            continue
    if sys.version_info >= (3, 14):
        annotate = function.__annotate__
        annotations = ("__annotate__", annotate) if annotate is not None else None
    else:
        annotations = ("__annotations__", function.__annotations__) if function.__annotations__ else None
    module = function.__module__
    namespace = pickler.namespace(function.__globals__, function.__globals__.get("__name__") or module or "__main__")
    state = (
        used,
        contents,
        function.__defaults__,
        function.__kwdefaults__,
        annotations,
        function.__dict__,
        (function.__qualname__, module, function.__doc__),
        names.used_submodules(code, used),
    )
    made = (code, namespace, function.__name__, cells)
    return definitions.make_function, made, state, None, None, definitions.fill_function


def _code(pickler: Pickler, code: CodeType) -> Reduced:
    return definitions.make_code, (marshal.dumps(code, _MARSHAL),)


def _cell(pickler: Pickler, cell: CellType) -> Reduced:
    # Its content follows with the state of the function that owns it.
    return definitions.make_cell, ()


def _method(pickler: Pickler, method: MethodType) -> Reduced:
    name = getattr(method.__func__, "__name__", "")
    if getattr(method.__self__, name, None) == method:
        return NotImplemented
    return definitions.make_method, (method.__func__, method.__self__)


def _module(pickler: Pickler, module: ModuleType) -> Reduced:
    name = module.__name__
    if name == "__main__":
        return definitions.main_module, ()
    if sys.modules.get(name) is not module or not importable.importable(name):
        raise pickle.PicklingError(f"module {name!r} exists in this process only: workers cannot import it")
    return definitions.module, (name,)


def _property(pickler: Pickler, obj: property) -> Reduced:
    return definitions.make_property, (obj.fget, obj.fset, obj.fdel, obj.__doc__)


def _around_function(pickler: Pickler, obj: Any) -> Reduced:
    return type(obj), (obj.__func__,)


def _mappingproxy(pickler: Pickler, obj: Any) -> Reduced:
    return definitions.make_mappingproxy, (dict(obj),)


def _keys(pickler: Pickler, obj: Any) -> Reduced:
    return definitions.make_view, (dict.fromkeys(obj), "keys")


def _values(pickler: Pickler, obj: Any) -> Reduced:
    return definitions.make_view, (dict(enumerate(obj)), "values")


def _items(pickler: Pickler, obj: Any) -> Reduced:
    return definitions.make_view, (dict(obj), "items")


def _lru_cache(pickler: Pickler, obj: Any) -> Reduced:
    if importable.reference(obj) == 0:
        return NotImplemented
    options = obj.cache_parameters()
    return definitions.make_lru_cache, (obj.__wrapped__, options["maxsize"], options["typed"])


def _cached_property(pickler: Pickler, obj: Any) -> Reduced:
    return definitions.make_cached_property, (obj.func, obj.attrname)


def _app(pickler: Pickler, obj: Any) -> Reduced:
    if not importable.is_app(obj):
        return NotImplemented
    function = obj.func
    if importable.reference(function) > 0:
        found = importable.find(function.__module__, function.__qualname__)
        if found is obj:
            return definitions.unwrapped, (function.__module__, function.__qualname__, 0)
    return NotImplemented


def _stored(pickler: Pickler, obj: Any) -> Reduced:
    if pickler.objects is None:
        return definitions.same, (obj.value(),)
    pickler.objects.append(obj)
    return definitions.load_object, (obj.entry.key,)


def _reference(pickler: Pickler, obj: Any) -> Reduced:
    outcome = obj._get_outcome()
    return _stored(pickler, outcome) if hasattr(outcome, "entry") else (definitions.same, (outcome.value(),))


# --------------------------------------------------------------------------------------------------------- classes

_HEAP = 1 << 9
_PLACED = frozenset({"__module__", "__qualname__", "__doc__", "__slots__", "__orig_bases__"})
_ENUM_MADE = frozenset({"__new__", "__new_member__", "__objclass__", "_generate_next_value_"})
_MEMBER_MADE = frozenset({"_value_", "_name_", "_sort_order_", "__objclass__"})

_blobs: dict[str, tuple[dict[str, Any], tuple[str, str, bytes]]] = {}
_BLOBS_LIMIT = 4096


def _class(pickler: Pickler, cls: Any) -> Reduced:
    module = cls.__module__
    if type(module) is str and importable.importable(module) and importable.find(module, cls.__qualname__) is cls:
        return NotImplemented
    if not cls.__flags__ & _HEAP:
        return _builtin_class(cls)
    token = known.find_token(cls)
    if pickler.refer and token is not None and not known.is_ours(token):
        return definitions.known_object, (token, module, cls.__qualname__)
    if pickler.defining:
        return _define_class(cls, token or known.token_of(cls))
    return definitions.load_class, _class_blob(cls, token or known.token_of(cls), pickler.refer)


def _builtin_class(cls: type) -> Reduced:
    for name, value in vars(types).items():
        if value is cls:
            return getattr, (types, name)
    return NotImplemented


def _class_blob(cls: Any, token: str, refer: bool) -> tuple[str, str, bytes]:
    cached = _blobs.get(token)
    now = vars(cls)
    if cached is not None:
        before = cached[0]
        # Describing a class costs a hundred times what comparing its attributes does.
        if (
            len(before) == len(now)
            and all(map(operator.is_, before.values(), now.values()))
            and list(before) == list(now)
        ):
            return cached[1]
    body = dumps(cls, defining=True, refer=refer)
    blob = (token, _digest(body), body)
    if len(_blobs) >= _BLOBS_LIMIT:
        _blobs.pop(next(iter(_blobs)), None)
    _blobs[token] = (dict(now), blob)
    return blob


def _define_class(cls: Any, token: str) -> Reduced:
    attributes = {k: v for k, v in vars(cls).items() if not _made_by_type(cls, k, v)}
    enumeration = "enum" in sys.modules and isinstance(cls, sys.modules["enum"].EnumMeta)
    # What Python looks at while it makes a class must be there from the start. Subclass hooks see plain data, too;
    # functions come later because they may refer to the class.
    hooked = not enumeration and cls.__mro__[1:] and _has_subclass_hook(cls)
    placed = {
        k: v for k, v in attributes.items() if k in _PLACED or (hooked and type(v) in (int, str, float, bool, tuple))
    }
    rest = {k: v for k, v in attributes.items() if k not in placed}
    if "__abstractmethods__" in vars(cls):
        rest["__abstractmethods__"] = cls.__abstractmethods__
    common = (token, type(cls), cls.__name__, cls.__bases__, placed)
    if not enumeration:
        return definitions.make_class, common, (token, rest, {}), None, None, definitions.fill_class
    members = {n: m._value_ for n, m in cls.__members__.items()}
    rest = {k: v for k, v in rest.items() if k not in members and k not in _ENUM_MADE and not _made_by_enum(k)}
    extra = {n: {k: v for k, v in vars(m).items() if k not in _MEMBER_MADE} for n, m in cls.__members__.items()}
    extra = {n: values for n, values in extra.items() if values}
    return definitions.make_enum, (*common, members), (token, rest, extra), None, None, definitions.fill_class


def _made_by_type(cls: Any, name: str, value: Any) -> bool:
    """Whether making the class makes this attribute again."""
    if name.startswith("_abc_") or name in ("__dict__", "__weakref__", "__abstractmethods__"):
        return True
    return isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)) and value.__objclass__ is cls


def _made_by_enum(name: str) -> bool:
    return name.startswith("_") and name.endswith("_") and not name.startswith("__") and name != "_missing_"


def _has_subclass_hook(cls: Any) -> bool:
    return any("__init_subclass__" in vars(base) for base in cls.__mro__[1:-1])


# ------------------------------------------------------------------------------------------------------ exceptions

_USUAL = (types.MethodDescriptorType, types.WrapperDescriptorType)


def _exception(error: BaseException) -> Reduced:
    kind = type(error)
    if not isinstance(kind.__init__, FunctionType) or kind.__module__ == "flowlib.errors":
        return NotImplemented
    if not (isinstance(kind.__reduce__, _USUAL) and isinstance(kind.__reduce_ex__, _USUAL)):
        return NotImplemented
    # Pickle would call the class with ``args``, which are rarely what an __init__ of one's own takes.
    return definitions.make_exception, (kind, error.args, vars(error))


# ---------------------------------------------------------------------------------------- things of other libraries


def _type_variable(pickler: Pickler, obj: Any) -> Reduced:
    if importable.find(obj.__module__, obj.__name__) is obj and importable.importable(obj.__module__):
        return NotImplemented
    options = {"covariant": obj.__covariant__, "contravariant": obj.__contravariant__, "bound": obj.__bound__}
    constraints = getattr(obj, "__constraints__", ())
    kind = type(obj).__name__
    return definitions.make_type_variable, (known.token_of(obj), kind, obj.__name__, constraints, options)


def _type_variable_tuple(pickler: Pickler, obj: Any) -> Reduced:
    if importable.find(obj.__module__, obj.__name__) is obj and importable.importable(obj.__module__):
        return NotImplemented
    return definitions.make_type_variable, (known.token_of(obj), "TypeVarTuple", obj.__name__, (), {})


def _new_type(pickler: Pickler, obj: Any) -> Reduced:
    if importable.reference(obj) == 0:
        return NotImplemented
    token = known.token_of(obj)
    return definitions.make_type_variable, (token, "NewType", obj.__name__, (obj.__supertype__,), {})


def _sentinel_of_dataclasses(pickler: Pickler, obj: Any) -> Reduced:
    # ``dataclasses`` compares these by identity, but pickle would make new ones.
    module = sys.modules["dataclasses"]
    for name, value in vars(module).items():
        if value is obj:
            return getattr, (module, name)
    return NotImplemented


def _weak_dictionary(pickler: Pickler, obj: Any) -> Reduced:
    return type(obj), (dict(obj.items()),)


_HANDLERS: dict[Any, Callable[[Pickler, Any], Reduced]] = {
    FunctionType: _function,
    type: _class,
    CodeType: _code,
    CellType: _cell,
    MethodType: _method,
    ModuleType: _module,
    MappingProxyType: _mappingproxy,
    property: _property,
    staticmethod: _around_function,
    classmethod: _around_function,
    type({}.keys()): _keys,
    type({}.values()): _values,
    type({}.items()): _items,
}

# By name, because these modules need not be loaded.
_LATE: dict[tuple[str, str], Callable[[Pickler, Any], Reduced]] = {
    ("functools", "_lru_cache_wrapper"): _lru_cache,
    ("functools", "cached_property"): _cached_property,
    ("typing", "TypeVar"): _type_variable,
    ("typing", "ParamSpec"): _type_variable,
    ("typing", "TypeVarTuple"): _type_variable_tuple,
    ("typing", "NewType"): _new_type,
    ("dataclasses", "_FIELD_BASE"): _sentinel_of_dataclasses,
    ("dataclasses", "_MISSING_TYPE"): _sentinel_of_dataclasses,
    ("dataclasses", "_KW_ONLY_TYPE"): _sentinel_of_dataclasses,
    ("dataclasses", "_HAS_DEFAULT_FACTORY_CLASS"): _sentinel_of_dataclasses,
    ("weakref", "WeakKeyDictionary"): _weak_dictionary,
    ("weakref", "WeakValueDictionary"): _weak_dictionary,
    ("flowlib.app.app", "*"): _app,
    ("flowlib.store.stored", "Stored"): _stored,
    ("flowlib.store.refs", "ObjectRef"): _reference,
}
_LATE_MODULES = {module for module, _ in _LATE}
