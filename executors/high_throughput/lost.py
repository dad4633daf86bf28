"""How the interchange words the loss of a manager, and a request that no node can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowlib.executors.high_throughput.needs import lacking
from flowlib.serialize.envelope import Failure, encode_failure

if TYPE_CHECKING:
    from flowlib.executors.high_throughput.messages import Register


def lost_payload(facts: Register, reason: str) -> bytes:
    """The payload of the results of attempts that a manager had when it was given up.

    Args:
        facts: The manager's registration.
        reason: What was noticed.
    """
    return encode_failure(
        Failure(
            type_name="flowlib.errors.ManagerLost",
            message=f"manager {facts.manager} on host {facts.host} was lost: {reason}",
            host=facts.host,
            log=facts.log,
            arguments=[facts.manager, facts.host, reason, facts.log],
        )
    )


def refused_payload(who: str, name: str, amount: float, there: float) -> bytes:
    """The payload of the result of a task that asks for more than any node has.

    Args:
        who: The executor.
        name: The resource.
        amount: What is asked.
        there: The most that a node has.
    """
    message = lacking(who, name, amount, there)
    return encode_failure(
        Failure(type_name="flowlib.errors.InvalidResourceSpecification", message=message, arguments=[[name], message])
    )
