"""Records for people and for other programs: numbers become names, bytes become text."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import msgspec

from flowlib.dataflow.states import States
from flowlib.events.schema import STATUSES, Code, as_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_STATES = {int(state): state.name for state in States}


def named(record: Sequence[Any]) -> dict[str, Any]:
    """A record with names for its fields, states and statuses, ready for JSON.

    Args:
        record: ``[code, time, ...]``.

    Example:
        >>> named([13, 1700000000.0, 7, 3])
        {'event': 'TASK_DONE', 'time': 1700000000.0, 'task': 7, 'state': 'exec_done'}
    """
    fields = as_dict(record)
    if "state" in fields:
        fields["state"] = _STATES.get(fields["state"], fields["state"])
    if "status" in fields and 0 <= fields["status"] < len(STATUSES):
        fields["status"] = STATUSES[fields["status"]]
    body = fields.get("body")
    if isinstance(body, bytes):
        fields["body"] = _body(fields.get("kind"), body)
    return fields


def _body(kind: object, body: bytes) -> Any:
    """What a task said: progress as a list; anything else, which is pickled, as base64."""
    if kind == "progress":
        try:
            return msgspec.msgpack.decode(body)
        except msgspec.DecodeError:
            pass
    return base64.b64encode(body).decode()


def json_lines(records: Iterable[Sequence[Any]]) -> Iterator[str]:
    """One JSON object per record.

    Args:
        records: As an ``EventReader`` gives them.

    Yields:
        A line without its end.
    """
    encoder = msgspec.json.Encoder()
    for record in records:
        yield encoder.encode(named(record)).decode()


def text_lines(records: Iterable[Sequence[Any]], width: int | None = None) -> Iterator[str]:
    """One readable line per record: seconds since the first one, what happened, its fields.

    Args:
        records: As an ``EventReader`` gives them.
        width: Most characters of a line; None for whole lines.

    Yields:
        A line without its end.
    """
    names: dict[tuple[str, int], str] = {}
    apps: dict[int, str] = {}
    start: float | None = None
    for record in records:
        fields = named(record)
        event, when = fields.pop("event"), fields.pop("time", 0.0)
        if start is None:
            start = when
            yield time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(when))
        if record[0] == Code.APP:
            names["app", fields["app"]] = fields["name"]
        elif record[0] == Code.EXECUTOR:
            names["executor", fields["executor"]] = fields["label"]
        else:
            for key in ("app", "executor"):
                if key in fields:
                    fields[key] = names.get((key, fields[key]), fields[key])
        task = fields.get("task", -1)
        if record[0] == Code.TASK_SUBMITTED:
            apps[task] = str(fields.get("app", ""))
        elif task in apps:
            fields = {"task": task, "app": apps[task], **fields}
        for key in ("started", "ended"):
            if fields.get(key):
                fields[key] = round(fields[key] - start, 6)
        told = " ".join(f"{key}={_plain(value)}" for key, value in fields.items() if value not in ("", -1, [], {}))
        line = f"{when - start:12.6f}  {event:<14} {told}"
        yield line if width is None else cut(line, width)


def cut(text: str, width: int) -> str:
    """A text, cut where it is longer than that.

    Example:
        >>> cut("a long line", 8)
        'a lon...'
    """
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() and " " not in value else repr(value)
