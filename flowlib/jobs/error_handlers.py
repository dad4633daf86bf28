"""What to do about blocks that fail: ready-made functions for an executor's ``block_error_handler``.

A handler gets the executor and the status of each of its blocks by id, oldest first, whenever one of them changed.
It gives up on the executor by ``executor.set_bad_state_and_fail_all(error)``.  As ``block_error_handler`` itself,
``simple_error_handler`` and ``noop_error_handler`` are other words for True and False: the executor then counts blocks
that ended before a manager came from them, or does not (see ``flowlib.scaling``), and calls no function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowlib.errors import TooManyJobFailuresError
from flowlib.jobs.remedies import remedy
from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers.watched_init import MARK, notes

_FAILED = (JobState.FAILED, JobState.MISSING)


def noop_error_handler(executor: Any, status: Mapping[str, JobStatus]) -> None:
    """Let blocks fail for ever."""


def simple_error_handler(executor: Any, status: Mapping[str, JobStatus], threshold: int | None = None) -> None:
    """Give up once every block failed.

    Args:
        executor: The executor.
        status: Status of each block.
        threshold: Fewest failures that count; None for the provider's ``init_blocks``, at least 1.
    """
    limit: int = max(1, executor.provider.init_blocks) if threshold is None else threshold
    failed = {block: s for block, s in status.items() if s.state in _FAILED}
    if len(failed) >= limit and len(failed) == len(status):
        _give_up(executor, failed)


def windowed_error_handler(executor: Any, status: Mapping[str, JobStatus], threshold: int = 3) -> None:
    """Give up once the newest blocks failed, whatever became of older ones.

    Args:
        executor: The executor.
        status: Status of each block.
        threshold: How many blocks in a row.

    Example:
        >>> from functools import partial
        >>> handler = partial(windowed_error_handler, threshold=5)
    """
    newest = dict(sorted(status.items(), key=lambda item: _age(item[0]))[-threshold:])
    if len(newest) == threshold and all(s.state in _FAILED for s in newest.values()):
        _give_up(executor, newest)


def describe_failures(failed: Mapping[str, JobStatus], jobs: Mapping[str, str] | None = None) -> str:
    """What a person needs to find out why blocks failed.

    Args:
        failed: Their status by block id.
        jobs: Their job ids by block id, where known.

    Returns:
        One paragraph per distinct failure: block, job, state, exit code, script, commands that failed in its
        ``worker_init``, the end of its standard error, what to do. Blocks that failed alike are named together.
    """
    groups: dict[str, list[str]] = {}
    for block, status in failed.items():
        job = jobs.get(block) if jobs else None
        groups.setdefault(_story(status), []).append(f"{block} (job {job})" if job else block)
    lines = []
    for story, blocks in groups.items():
        few = ", ".join(blocks[:5]) + (f" and {len(blocks) - 5} more" if len(blocks) > 5 else "")
        lines.append(f"block{'s' if len(blocks) > 1 else ''} {few}: {story}")
    for status in list(failed.values())[-1:]:
        if status.script_path:
            lines.append(f"  script: {status.script_path}")
        failed_commands = notes(status.stderr_path)
        if failed_commands:
            lines.append("  commands that failed in worker_init:")
            lines.extend(f"    {note.replace(f'at {status.script_path}:', 'at line ', 1)}" for note in failed_commands)
        for name, path, tail in (
            ("standard error", status.stderr_path, status.stderr_summary),
            ("standard output", status.stdout_path, status.stdout_summary),
        ):
            rest = [line for line in (tail or "").strip().splitlines() if not line.startswith(MARK)]
            if rest:
                lines.append(f"  end of its {name} ({path}):")
                lines.extend(f"    {line}" for line in rest[-20:])
                break
        advice = remedy(status)
        if advice:
            lines.append(f"  what to do: {advice}")
    return "\n".join(lines)


def _story(status: JobStatus) -> str:
    # Written as the field's scripts and people search for it.
    code = "" if status.exit_code is None else f", EXIT CODE: {status.exit_code}"
    return f"{status.state.name}{code}" + (f": {status.message}" if status.message else "")


def _give_up(executor: Any, failed: Mapping[str, JobStatus]) -> None:
    executor.set_bad_state_and_fail_all(
        TooManyJobFailuresError(f"too many blocks failed, no more are started\n{describe_failures(failed)}")
    )


def _age(block: str) -> tuple[int, str]:
    return (int(block), "") if block.isdecimal() else (-1, block)
