"""Makes failures of ``worker_init`` visible where its last command succeeds: a ``module load`` that failed, say.

Such a script goes on, as the user may well want; the block then starts with half of what it needs, and what is seen is
some later failure.  A trap notes each command that failed in the block's standard error and changes nothing else; the
report of a block from which no manager came quotes the notes.
"""

from __future__ import annotations

from itertools import islice

MARK = "flowlib: worker_init: "
"""Start of a note."""

NOTE_START = "export FLOWLIB_JOB_STARTED=$(date +%s)"
"""Line of a job script, before ``worker_init``, that notes when the job started: its walltime is counted from there."""

_MOST_NOTES = 5
_MOST_LINES = 10_000

# Bash keeps $? through a trap. A trap of the user's own takes the place of this one, and stays.
_SET = f"""trap 'echo "{MARK}exit code $? at ${{BASH_SOURCE[0]}}:$LINENO: $BASH_COMMAND" >&2' ERR"""
_UNSET = f"""case "$(trap -p ERR)" in *'{MARK}'*) trap - ERR ;; esac"""


def watched(worker_init: str) -> list[str]:
    """Lines of a bash script that run ``worker_init`` and note which of its commands failed; [] if it is empty.

    Example:
        >>> for line in watched("module load python"):
        ...     print(line)
        trap 'echo "flowlib: worker_init: exit code $? at ${BASH_SOURCE[0]}:$LINENO: $BASH_COMMAND" >&2' ERR
        module load python
        case "$(trap -p ERR)" in *'flowlib: worker_init: '*) trap - ERR ;; esac
    """
    return [_SET, worker_init, _UNSET] if worker_init.strip() else []


def notes(stderr_path: str | None) -> list[str]:
    """The first notes in a block's standard error, without their mark; [] if there are none or it cannot be read."""
    if stderr_path is None:
        return []
    try:
        with open(stderr_path, encoding="utf-8", errors="replace") as file:
            lines = (line[len(MARK) :].rstrip() for line in islice(file, _MOST_LINES) if line.startswith(MARK))
            return list(islice(lines, _MOST_NOTES))
    except OSError:
        return []
