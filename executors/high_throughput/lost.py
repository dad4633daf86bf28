"""How the interchange words the loss of a manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
