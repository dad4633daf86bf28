"""Where attempts are, and why they do not run: what the interchange says of itself, and what that means.

Pure on both sides.  ``describe`` is the interchange's, asked seldom and by people only; ``place_of`` is the driver's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flowlib.executors.high_throughput.capacity import shortfall, slots_for
from flowlib.jobs.states import JobState

if TYPE_CHECKING:
    from flowlib.executors.high_throughput.dispatcher import Dispatcher
    from flowlib.executors.high_throughput.managers import Key
    from flowlib.executors.high_throughput.packing import Lane
    from flowlib.explain.place import Place
    from flowlib.jobs.states import JobStatus


NODES = 3
"""Nodes that are named as too full."""


def describe(
    core: Dispatcher, keys: Sequence[Key], quarantined: Mapping[str, str], begun: Mapping[Key, float]
) -> dict[str, Any]:
    """What the interchange knows of some attempts, and of what there is for them.

    Args:
        core: Its dispatcher.
        keys: The attempts.
        quarantined: Why hosts get no tasks, by host.
        begun: Unix times of the latest begins.

    Returns:
        ``attempts``: for each attempt None, ``{"position": place in the queue}``, or ``{"manager", "host", "begun",
        "since", "crowded"}``; with ``position`` are ``asks`` and ``why`` if it waits for room on a node, and ``time``,
        which is what ``Endings.lack`` says, if it waits for time. The rest are numbers of managers, workers and tasks.
    """
    managers = list(core.managers.values())
    there = [one for one in managers if one.open]
    hosts = {one.facts.host for one in managers}
    return {
        "attempts": [_attempt(core, key, begun.get(key)) for key in keys],
        "queue": core.waiting,
        "managers": len(there),
        "workers": sum(one.slots for one in there),
        "free": sum(max(0, one.slots - one.used) for one in there),
        "quarantined": {host: why for host, why in quarantined.items() if host in hosts},
        "held": sum(one.held and one.facts.host not in quarantined for one in managers),
        "draining": sum(one.draining for one in managers),
    }


def _attempt(core: Dispatcher, key: Key, since: float | None) -> dict[str, Any] | None:
    place = core.place(key)
    if place is None:
        request = core.request(key)
        return None if request is None else {**_request(core, *request), **_lack(core, key)}
    if isinstance(place, int):
        return {"position": place, **_lack(core, key)}
    begun = key in place.begun
    return {
        "manager": place.name,
        "host": place.facts.host,
        "begun": begun,
        "since": since,
        "crowded": len(place.running) + place.extra > place.slots,
    }


def _lack(core: Dispatcher, key: Key) -> dict[str, Any]:
    lack = core.lack_of_time(key)
    return {} if lack is None else {"time": lack}


def _request(core: Dispatcher, lane: Lane, position: int) -> dict[str, Any]:
    """What stands in the way of a task that asks for resources: the nodes that come nearest."""
    there = [one for one in core.managers.values() if one.open]
    able = [one for one in there if not shortfall(lane.asked, one.facts)]
    able.sort(key=lambda one: slots_for(lane.asked, one.facts) - (one.slots - one.used))
    told: list[str] = []
    for one in able[:NODES]:
        free, needed = max(0, one.slots - one.used), slots_for(lane.asked, one.facts)
        if one is lane.reserved:
            told.append(f"{one.facts.host} is kept free for it, {free} of {needed} slots so far")
        elif one.reserved:
            told.append(f"{one.facts.host} is kept free for another")
        elif free < needed:
            told.append(f"{one.facts.host} has {free} of {needed} slots free")
        else:
            told.append(f"{one.facts.host} has slots free, and not the rest of it")
    if not able and there:
        told.append("no node could hold it, were it empty")
    return {"position": position, "asks": dict(lane.asked), "why": "; ".join(told)}


def place_of(label: str, told: Mapping[str, Any], index: int, blocks: Mapping[str, JobStatus]) -> Place | None:
    """Where one of the attempts is.

    Args:
        label: The executor's.
        told: By ``describe``.
        index: Which of the attempts.
        blocks: The states of the executor's blocks.

    Returns:
        None if it is on its way, so that nobody can tell.
    """
    from flowlib.explain.place import Place
    from flowlib.explain.reasons import Reason

    attempt = told["attempts"][index]
    if attempt is None:
        return None
    figures = {"executor": label, "workers": told["workers"], "managers": told["managers"]}
    if "manager" in attempt:
        at = {"host": attempt["host"], "manager": attempt["manager"]}
        if attempt["begun"]:
            return Place(Reason.RUNNING, at, attempt["since"])
        return Place(Reason.CAPACITY if attempt["crowded"] else Reason.DISPATCH, {**figures, **at})
    if attempt.get("time") and told["managers"]:
        takes, declared, left = attempt["time"]
        return Place(Reason.WALLTIME, {**figures, "takes": takes, "declared": declared, "left": left})
    if "asks" in attempt and told["managers"]:
        wanted = {name: attempt[name] for name in ("asks", "position", "why")}
        return Place(Reason.NO_FIT, {"executor": label, **wanted})
    queue = {"position": attempt["position"], "queue": told["queue"]}
    if told["managers"]:
        return Place(Reason.DISPATCH if told["free"] else Reason.CAPACITY, {**figures, **queue})
    if told["quarantined"]:
        hosts = sorted(told["quarantined"])
        return Place(Reason.QUARANTINE, {"executor": label, "hosts": hosts, "why": told["quarantined"][hosts[0]]})
    if told["held"]:
        return Place(Reason.HELD, {"executor": label, "managers": told["held"]})
    return _of_blocks(label, blocks)


def _of_blocks(label: str, blocks: Mapping[str, JobStatus]) -> Place | None:
    """What the provider says now of blocks that are on their way; None if there is none."""
    from flowlib.explain.place import Place
    from flowlib.explain.reasons import Reason

    queued = [status for status in blocks.values() if status.state in (JobState.PENDING, JobState.HELD)]
    if not queued or any(status.state is JobState.RUNNING for status in blocks.values()):
        return None
    why = next((status.message for status in queued if status.message), "")
    return Place(Reason.BLOCK_QUEUED, {"executor": label, "blocks": len(queued), "why": why})
