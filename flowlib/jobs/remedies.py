"""What to do about a block that failed, by the words with which schedulers and shells tell common mistakes."""

from __future__ import annotations

import re

from flowlib.jobs.states import JobState, JobStatus

_WORDS: tuple[tuple[str, str], ...] = (
    (
        r"submit command is not there|could not establish a configuration source",
        (
            "run on a login node of the machine, or load its scheduler's module; from elsewhere give the provider "
            "transport=SSHTransport(...)"
        ),
    ),
    (
        r"invalid account|accountnotallowed|invalid project|(account|project)\b.*\b(invalid|unknown|not allowed)",
        "give an account that you may use: account=... (Slurm lists yours by `sacctmgr show assoc user=$USER`)",
    ),
    (
        r"invalid partition|unknown queue|queue .*(does not exist|not found)|no such queue",
        "give a partition or queue that there is: `flowlib doctor SITE` and, for Slurm, `sinfo -s` list them",
    ),
    (
        r"no module named '?(flowlib|msgspec|zmq|psutil)",
        "install flowlib in the Python of the node, or name one that has it: worker_python=..., worker_init=...",
    ),
    (
        r"cannot reach|none of .*address|no route to host|network is unreachable",
        (
            "give an address of this machine that nodes reach: address=... or address_by_interface(...); "
            "`flowlib doctor SITE --job` tries it"
        ),
    ),
    (
        r"python[\d.]*: (not found|no such file)|no such file or directory.*python",
        "name a Python that is on the nodes: worker_python=..., or make one available in worker_init=...",
    ),
)
_RULES = tuple((re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in _WORDS)


def remedy(status: JobStatus) -> str:
    """What to do, "" where nothing certain can be said.

    Args:
        status: Of a block that failed.

    Example:
        >>> remedy(JobStatus(JobState.FAILED, "sbatch: error: Invalid account or account/partition"))[:38]
        'give an account that you may use: acco'
    """
    text = "\n".join(part for part in (status.message, status.stderr_summary) if part)
    for pattern, advice in _RULES:
        if pattern.search(text):
            return advice
    if status.state is JobState.TIMEOUT:
        return "the walltime was over before a manager came: ask for more, walltime=..., or do less in worker_init"
    if status.exit_code:
        return "try the commands of worker_init and the script by hand on a node; `flowlib doctor` looks for causes"
    return ""
