"""What a reason with its details says to people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flowlib.explain.interval import span
from flowlib.explain.reasons import Reason

Detail = Mapping[str, Any]


def sentence(reason: Reason, detail: Detail, now: float) -> str:
    """A reason in words.

    Args:
        reason: The reason.
        detail: As in an ``Interval``.
        now: Unix time, for how long others have been at it.

    Example:
        >>> sentence(Reason.BLOCK_QUEUED, {"executor": "htex", "blocks": 1, "job": "77", "why": "Priority"}, 0.0)
        "a block of 'htex' is queued as job 77: Priority"
    """
    return _SENTENCES[reason](detail, now)


def _inputs(detail: Detail, now: float) -> str:
    if detail["done"] == detail["inputs"]:
        return f"its {detail['inputs']} inputs were not done" if detail["inputs"] != 1 else "its input was not done"
    text = f"{detail['done']} of {detail['inputs']} inputs are done"
    roots = detail.get("roots")
    if not roots:
        return text
    root, count = roots[0], detail["root_count"]
    more = f", and {count - 1} more" if count > 1 else ""
    return f"{text}; {_root(root, now)}{more}"


def _join(detail: Detail, now: float) -> str:
    if detail["done"] == detail["inputs"]:
        return "the tasks that it returned were not done"
    return _inputs(detail, now).replace("inputs are done", "tasks that it returned are done", 1)


def _root(root: Detail, now: float) -> str:
    name = f"task {root['task']} ({root['app']})" if root.get("app") else f"task {root['task']}"
    reason, since = Reason(root["reason"]), span(max(0.0, now - root["since"]))
    if reason is Reason.RUNNING:
        host = root.get("host")
        return f"{name} has been running{f' on {host}' if host else ''} for {since}"
    if reason is Reason.DISPATCH:
        return f"{name} is on its way to a worker, or has just begun"
    return f"{name} has been waiting for {since}, because {sentence(reason, root, now)}"


def _capacity(detail: Detail, now: float) -> str:
    workers = detail.get("workers")
    label = detail.get("executor", "?")
    if workers is None:
        text = f"no thread of {label!r} is free"
    else:
        text = f"all {workers} workers of {label!r} are busy" if workers != 1 else f"the worker of {label!r} is busy"
    if detail.get("manager"):
        text += f", and it stands by on {detail.get('host') or detail['manager']}"
    elif detail.get("position"):
        text += f", and it is number {detail['position']} of {detail['queue']} in the queue"
    more = detail.get("blocks_queued")
    if more:
        text = _why(f"{text}; {more} more {'block is' if more == 1 else 'blocks are'} queued", detail)
    return text


def _no_fit(detail: Detail, now: float) -> str:
    asks = ", ".join(f"{name}={amount}" for name, amount in detail.get("asks", {}).items())
    what = f"what it asks for ({asks})" if asks else "what it asks for"
    return _why(f"no node of {detail['executor']!r} has room for {what}", detail)


def _walltime(detail: Detail, now: float) -> str:
    takes = f"it {'may take' if detail['declared'] else 'is expected to take'} {span(detail['takes'])}"
    left = detail["left"]
    return f"{takes}, and no block of {detail['executor']!r} with a free worker has more than {span(left)} left"


def _block(state: str) -> Callable[[Detail, float], str]:
    def say(detail: Detail, now: float) -> str:
        count, job = detail["blocks"], detail.get("job")
        blocks = (
            f"a block of {detail['executor']!r} is" if count == 1 else f"{count} blocks of {detail['executor']!r} are"
        )
        text = f"{blocks} {state}"
        if job:
            text += f" as job {job}" if count == 1 else f", the first as job {job}"
        failed = detail.get("failed")
        return _why(text, detail) + (f" ({failed} before failed)" if failed else "")

    return say


def _failed(detail: Detail, now: float) -> str:
    return _why(f"{detail['failed']} block(s) of {detail['executor']!r} in a row came to nothing", detail)


def _quarantine(detail: Detail, now: float) -> str:
    return _why(f"{', '.join(detail['hosts'])} gets no more tasks", detail)


def _running(detail: Detail, now: float) -> str:
    host = detail.get("host")
    text = f"it runs on {host}" if host else "it runs"
    attempt = detail.get("attempt", 0)
    return f"{text}, try {attempt + 1}" if attempt else text


def _backoff(detail: Detail, now: float) -> str:
    return f"try {detail['attempt'] + 1} failed" + (f" with {detail['error']}" if detail.get("error") else "")


def _executor(detail: Detail, now: float) -> str:
    return f"executor {detail.get('executor', '?')!r} has it, and no record tells whether it has begun"


def _why(text: str, detail: Detail) -> str:
    why = " ".join(str(detail.get("why") or "").split())
    return f"{text}: {why}" if why else text


def _always(text: str) -> Callable[[Detail, float], str]:
    return lambda detail, now: _why(text, detail)


_SENTENCES: Mapping[Reason, Callable[[Detail, float], str]] = {
    Reason.DEPENDENCY: _inputs,
    Reason.EXTERNAL: lambda detail, now: f"it needs {detail['futures']} future(s) from outside the run",
    Reason.PREPARING: _always("its inputs are there, and its call is being prepared"),
    Reason.JOIN: _join,
    Reason.CAPACITY: _capacity,
    Reason.NO_FIT: _no_fit,
    Reason.WALLTIME: _walltime,
    Reason.DISPATCH: _always("a worker is free for it; it is on its way there, or has just begun"),
    Reason.NO_BLOCK: _always("there is no block, and none was asked for yet"),
    Reason.BLOCK_QUEUED: _block("queued"),
    Reason.BLOCK_STARTING: _block("starting"),
    Reason.BLOCK_FAILED: _failed,
    Reason.MANAGER_LOST: _always("its block's managers are lost"),
    Reason.QUARANTINE: _quarantine,
    Reason.HELD: _always("the managers that there are get no tasks on request"),
    Reason.DRAINING: _always("the managers that there are finish what they have and leave"),
    Reason.EXECUTOR: _executor,
    Reason.RUNNING: _running,
    Reason.LOST: lambda detail, now: (
        f"it was lost{' with ' + detail['host'] if detail.get('host') else ''}"
        + (f": {detail['error']}" if detail.get("error") else "")
    ),
    Reason.RETURN: _always("it has run, and its value is on its way"),
    Reason.BACKOFF: _backoff,
}
