"""What every provider is: something that starts, watches and ends jobs on one kind of machine.

A provider is small and knows nothing of tasks or managers.  It gets a finished command line, asks its launcher to
spread it over the nodes of a block, and makes a job of it.  Everything else is the caller's: how many blocks, when,
and what their failure means.  All calls come from one thread, the executor's block thread, which never carries tasks;
they may take as long as the scheduler's commands take, but each must end by itself.

Providers for other machines differ in a few places only, and each is one method:

* ``submit`` makes the job, ``status`` asks for many at once, ``cancel`` ends many at once;
* ``deliver`` puts small private files (keys, addresses) where the job can read them and others cannot: a private
  directory on a shared file system, a copy over SSH, a secret of a pod, a token in a machine's start-up data;
* ``remote_side`` tells how managers get home, and with which Python, where that is not as on this machine.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowlib.errors import ConfigurationError, UnsupportedFeatureError
from flowlib.jobs.states import JobStatus


@dataclass(frozen=True)
class RemoteSide:
    """What managers find on machines that share neither network nor files with this one.

    Texts may hold variables ``${FLOWLIB_...}``, which the job's environment has.

    Attributes:
        addresses: Where they reach home, such as ``tcp://127.0.0.1:${FLOWLIB_HOME_PORT}``; () for this machine's own
            addresses.
        logdir: Directory for their logs; "" for the executor's.
        python: The Python to use, as a shell word; "" for the usual choice.
    """

    addresses: tuple[str, ...] = ()
    logdir: str = ""
    python: str = ""


class ExecutionProvider(ABC):
    """Base of providers.

    A subclass needs ``submit``, ``status``, ``cancel``, ``label`` and ``status_polling_interval``; the rest has
    sensible defaults.  Its constructor stores its arguments, checks them, and does nothing else: no command, no file,
    no network.

    Attributes:
        min_blocks: Blocks that are kept alive also without work.
        max_blocks: Most blocks alive at a time; a block in an unknown state counts as alive.
        init_blocks: Blocks started at once.
        nodes_per_block: Nodes of each block.
        parallelism: Slots per unfinished task to aim for: 1 for as many as there are tasks, 0 for a single block.
        script_dir: Where submit scripts go; None until a run sets it to its own ``submit_scripts``.
        cores_per_node: CPUs of a node, where known beforehand.
        mem_per_node: Memory of a node in GB, where known beforehand.
        walltime_s: Seconds after which a block ends by itself; None for no limit.
        keys_are_read_by_others: Whether what ``deliver`` takes may be read by others later. The key in it is then good
            only for naming another one, once.
    """

    min_blocks: int = 0
    max_blocks: int = 1
    init_blocks: int = 1
    nodes_per_block: int = 1
    parallelism: float = 1
    script_dir: str | None = None
    cores_per_node: int | None = None
    mem_per_node: float | None = None
    walltime_s: float | None = None
    keys_are_read_by_others: bool = False

    @property
    @abstractmethod
    def label(self) -> str:
        """Short name of the provider: "local", "slurm" ..."""

    @property
    @abstractmethod
    def status_polling_interval(self) -> float:
        """Seconds between status queries; at least as many as the scheduler's operators would like."""

    @abstractmethod
    def submit(self, command: str, tasks_per_node: int, job_name: str = "flowlib.auto") -> Any:
        """Start a job, or queue it.

        Args:
            command: Shell command line that starts one manager.
            tasks_per_node: How many times to run it on each node.
            job_name: Name for the scheduler's lists and for files; unique in a run.

        Returns:
            The job's id, to be given back to ``status`` and ``cancel``.

        Raises:
            ExecutionProviderException: It was refused. Its ``retryable`` says whether asking again can help.
        """

    @abstractmethod
    def status(self, job_ids: Sequence[Any]) -> list[JobStatus]:
        """The state of jobs, by one query for all.

        Args:
            job_ids: Ids from ``submit``.

        Returns:
            One status for each, in order. A job that the scheduler does not know is ``MISSING``.

        Raises:
            Exception: The query failed. That says nothing of the jobs; they count as alive.
        """

    @abstractmethod
    def cancel(self, job_ids: Sequence[Any]) -> list[bool]:
        """End jobs, running or not.

        Args:
            job_ids: Ids from ``submit``.

        Returns:
            For each, whether the order was accepted.
        """

    def deliver(self, files: Mapping[str, bytes], job_name: str = "block") -> str:
        """Put private files where the job's nodes can read them and nobody else can.

        Called before ``submit`` with the same ``job_name``.

        Args:
            files: Contents by plain file name.
            job_name: The job they are for.

        Returns:
            The directory that holds them, as the job sees it. May contain shell variables that are set in the job,
            so it is not to be quoted by single quotes.

        Raises:
            OSError: They cannot be written.
        """
        parent = os.path.join(os.path.dirname(self.script_dir), "private") if self.script_dir else tempfile.gettempdir()
        os.makedirs(parent, mode=0o700, exist_ok=True)
        directory = tempfile.mkdtemp(prefix=f"{safe_name(job_name)}-", dir=parent)  # 0700
        for name, content in files.items():
            if os.path.basename(name) != name or not name:
                raise ValueError(f"deliver takes plain file names, not {name!r}")
            with open(os.path.join(directory, name), "wb", opener=_private) as file:
                file.write(content)
        return directory

    def remote_side(self, home: tuple[str, int], python: str | None, logdir: str) -> RemoteSide | None:
        """What is different for managers on machines of this provider.

        Called before ``deliver``, for each block.

        Args:
            home: Address and port at which this machine itself reaches the interchange.
            python: The executor's ``worker_python``.
            logdir: The executor's directory for the block's logs, as this machine sees it.

        Returns:
            None where they share this machine's network and files, as on a cluster.
        """
        return None

    def descriptors(self) -> Iterable[int]:
        """File descriptors that become readable when a job ended.

        The caller polls them and then asks for ``status`` at once. Only for providers whose jobs are this process's
        children; for all others the polling interval decides.
        """
        return ()

    def render_script(self, command: str, tasks_per_node: int = 1, job_name: str = "flowlib.auto") -> str:
        """The script that ``submit`` would run or queue, for people who want to see it first.

        Args:
            command: As for ``submit``.
            tasks_per_node: As for ``submit``.
            job_name: As for ``submit``.
        """
        raise UnsupportedFeatureError("render_script", type(self).__name__)

    @property
    def resources(self) -> dict[Any, Any]:
        """What the provider remembers of its jobs, by id."""
        return {}


def check_blocks(
    provider: str, *, nodes_per_block: int, init_blocks: int, min_blocks: int, max_blocks: int, parallelism: float
) -> int:
    """Refuse numbers of blocks that make no sense.

    Args:
        provider: Class name, for messages.
        nodes_per_block: At least 1.
        init_blocks: At least 0.
        min_blocks: At least 0, at most ``max_blocks``.
        max_blocks: At least 0.
        parallelism: From 0 to 1.

    Returns:
        ``init_blocks``, not above ``max_blocks``; a warning tells if that changed it.

    Raises:
        ConfigurationError: Names the parameter, what was given and what is allowed.
    """
    # As objects: what the annotations promise is what is to be found out.
    numbers: list[tuple[str, object, int]] = [
        ("nodes_per_block", nodes_per_block, 1),
        ("init_blocks", init_blocks, 0),
        ("min_blocks", min_blocks, 0),
        ("max_blocks", max_blocks, 0),
    ]
    for name, value, least in numbers:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(f"{provider}({name}={value!r}): give a whole number, {least} or more")
    ratio: object = parallelism
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio <= 1:
        raise ConfigurationError(f"{provider}(parallelism={ratio!r}): give a number from 0 to 1")
    if min_blocks > max_blocks:
        raise ConfigurationError(
            f"{provider}(min_blocks={min_blocks}, max_blocks={max_blocks}): "
            "min_blocks blocks are kept alive, so max_blocks must not be less"
        )
    if init_blocks > max_blocks:
        warnings.warn(
            f"{provider}(init_blocks={init_blocks}, max_blocks={max_blocks}): max_blocks holds always, so only "
            f"{max_blocks} will be started; raise max_blocks to have more",
            stacklevel=3,
        )
        return max_blocks
    return init_blocks


def safe_name(name: str) -> str:
    """A job name as a file name: everything but letters, digits and ``._-`` becomes ``_``."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:100] or "job"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)
