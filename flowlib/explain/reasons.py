"""The reasons why a task does not run, by code: part of the public interface, and stable."""

from __future__ import annotations

from enum import Enum


class Reason(str, Enum):
    """What a task waits for, or does. The value is the code in JSON."""

    DEPENDENCY = "dependency"
    """Tasks whose values it needs are not done."""
    EXTERNAL = "external"
    """It needs futures that are no tasks of this run, and not all of them are done."""
    PREPARING = "preparing"
    """Its inputs are there; its call is looked up in the memo table, or its arguments are put together."""
    JOIN = "join"
    """Its body returned tasks, and not all of them are done."""
    CAPACITY = "capacity"
    """All workers are busy with other tasks."""
    NO_FIT = "no_fit"
    """There are free workers, but no node has free what it asks for."""
    WALLTIME = "walltime"
    """There are free workers, but it takes longer than what is left of their jobs."""
    DISPATCH = "dispatch"
    """A worker is free for it: it is on its way there, or has just begun."""
    NO_BLOCK = "no_block"
    """There is no block, and none was asked for yet."""
    BLOCK_QUEUED = "block_queued"
    """A block was submitted, and the scheduler has not started it."""
    BLOCK_STARTING = "block_starting"
    """A block's job runs, but no manager has come from it yet."""
    BLOCK_FAILED = "block_failed"
    """The last block came to nothing, and no other was asked for yet."""
    MANAGER_LOST = "manager_lost"
    """The managers of the blocks that live are lost."""
    QUARANTINE = "quarantine"
    """The nodes that there are get no tasks, because workers die there."""
    HELD = "held"
    """The managers that there are get no tasks, because somebody said so."""
    DRAINING = "draining"
    """The managers that there are finish what they have and leave."""
    EXECUTOR = "executor"
    """The executor has it, and tells no more."""
    RUNNING = "running"
    """A worker runs it."""
    LOST = "lost"
    """It ran on a machine that was lost."""
    RETURN = "return"
    """It has run; its value is on the way back, or is being remembered."""
    BACKOFF = "backoff"
    """A try failed, and the next has not been launched."""
    DONE = "done"
    """It is done. The reason of an explanation, never of an interval."""

    def __str__(self) -> str:
        return self.value


WORDS = {
    Reason.DEPENDENCY: "for inputs",
    Reason.EXTERNAL: "for futures from elsewhere",
    Reason.PREPARING: "being prepared",
    Reason.JOIN: "for the tasks that it returned",
    Reason.CAPACITY: "for a free worker",
    Reason.NO_FIT: "for a node with room for it",
    Reason.WALLTIME: "for a block with enough time left",
    Reason.DISPATCH: "on its way",
    Reason.NO_BLOCK: "for a block to be asked for",
    Reason.BLOCK_QUEUED: "for the scheduler to start a block",
    Reason.BLOCK_STARTING: "for a block's manager to come up",
    Reason.BLOCK_FAILED: "after a block that failed",
    Reason.MANAGER_LOST: "after its managers were lost",
    Reason.QUARANTINE: "because nodes were quarantined",
    Reason.HELD: "because managers were held",
    Reason.DRAINING: "because managers were draining",
    Reason.EXECUTOR: "at its executor",
    Reason.RUNNING: "running",
    Reason.LOST: "running on what was lost",
    Reason.RETURN: "on its way back",
    Reason.BACKOFF: "between tries",
}
"""What the time of an interval was spent on, after "3 s "."""

PROGRESS = frozenset({Reason.RUNNING, Reason.RETURN, Reason.PREPARING, Reason.DISPATCH})
"""The reasons of a task that nothing holds up."""
