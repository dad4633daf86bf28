"""Arrays and tables taken apart for keys, without importing numpy or pandas where nobody has."""

from __future__ import annotations

from typing import Any

Parts = list[tuple[str, Any]]
"""What a value holds, each with its name; memory views are content."""


def parts_of_numpy(value: Any) -> Parts | None:
    """What counts of a value of numpy's; None if it is nothing that has a key."""
    if hasattr(value, "bit_generator"):
        return [(".bit_generator", value.bit_generator)]
    if hasattr(value, "random_raw"):
        return [(".state", value.state)]
    if hasattr(value, "itemsize") and hasattr(value, "descr") and not hasattr(value, "tobytes"):
        return [(".descr", _dtype(value))]
    if hasattr(value, "nin") and hasattr(value, "nout"):
        return [(".__name__", value.__name__)]
    if not hasattr(value, "tobytes") or not hasattr(value, "dtype"):
        return None
    dtype = value.dtype
    parts: Parts = [(".dtype", _dtype(dtype)), (".shape", tuple(value.shape))]
    mask = getattr(value, "mask", None) if hasattr(value, "fill_value") else None
    if mask is not None:
        return [*parts, (".mask", mask), (".data", value.filled(value.dtype.type()))]
    if dtype.names:
        # Not as it lies in memory: there may be anything between its fields.
        return [*parts, *((f"[{name!r}]", value[name]) for name in dtype.names)]
    if dtype.hasobject or dtype.kind == "T":
        return [*parts, ("", value.tolist())]
    if not value.shape or not value.flags.c_contiguous:
        return [*parts, ("", memoryview(value.tobytes()))]
    # Dates have no buffers; bytes of any array do.
    return [*parts, ("", memoryview(value.reshape(-1).view("u1")) if value.size else memoryview(b""))]


def parts_of_pandas(value: Any) -> Parts | None:
    """What counts of a value of pandas'; None if it is nothing that has a key."""
    if hasattr(value, "columns") and hasattr(value, "dtypes"):
        columns = [value.iloc[:, i] for i in range(len(value.columns))]
        return [
            (".columns", value.columns),
            (".index", value.index),
            *((f"[{column.name!r}]", _column(column)) for column in columns),
        ]
    if hasattr(value, "levels") and hasattr(value, "codes"):
        return [(".names", list(value.names)), ("", value.tolist())]
    if hasattr(value, "index") and hasattr(value, "iloc"):
        return [(".name", value.name), (".index", value.index), ("", _column(value))]
    if hasattr(value, "get_indexer") or hasattr(value, "_from_sequence"):
        return [(".name", getattr(value, "name", None)), ("", _column(value))]
    if hasattr(value, "isoformat"):
        return [("", value.isoformat()), (".tz", str(getattr(value, "tz", None)))]
    if type(value).__name__ in ("NAType", "NaTType"):
        return []
    return [("", str(value))] if hasattr(value, "_is_dtype_type") or hasattr(value, "construct_array_type") else None


def _dtype(dtype: Any) -> str:
    return str(dtype.str if not dtype.names else dtype.descr)


def _column(column: Any) -> Any:
    """The values of a column: its type, and an array of numbers or a list."""
    dtype = column.dtype
    if getattr(dtype, "kind", "O") in "biufcmM" and type(dtype).__module__.partition(".")[0] == "numpy":
        return (str(dtype), column.to_numpy())
    if hasattr(dtype, "categories"):
        return (str(dtype), dtype.ordered, dtype.categories.tolist(), column.tolist())
    return (str(dtype), column.tolist())
