"""Which schedulers there are, and what their commands are called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of scheduler.

    Attributes:
        provider: Its class in ``flowlib.providers``.
        module: The module in ``flowlib.testing.fakes`` that speaks its language.
        site: What files of sites call it.
        submit: Its command that submits.
        query: Its command that tells the state of jobs.
        cancel: Its command that ends jobs.
        history: Its accounting's commands.
        more: What else it has: programs that start copies on a job's nodes, and the like.
        forgets: Whether its queue knows only jobs that have not ended.
        unreachable: Exit code and words of its commands when nobody answers; ``{command}`` is the command.
    """

    provider: str
    module: str
    site: str
    submit: str
    query: str
    cancel: str
    history: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    forgets: bool = False
    unreachable: tuple[int, str] = (1, "")

    @property
    def programs(self) -> list[str]:
        """Files to be found on PATH: those of ``flux-batch`` and ``flux-jobs`` are one, ``flux``."""
        names = (self.submit, self.query, self.cancel, *self.history, *self.more)
        return sorted({"flux" if name.startswith("flux-") else name for name in names})


_NO_QMASTER = """\
error: commlib error: got select error (Connection refused)
unable to send message to qmaster using port 6444 on host "fakehost": got send error"""

KINDS = {
    "slurm": Kind(
        "SlurmProvider", "slurm", "slurm", "sbatch", "squeue", "scancel", ("sacct",), ("srun", "scontrol"),
        unreachable=(1, "{command}: error: Unable to contact slurm controller (connect failure)"),
    ),
    "pbspro": Kind(
        "PBSProProvider", "pbs", "pbspro", "qsub", "qstat", "qdel", more=("mpiexec", "mpirun"),
        unreachable=(162, "Connection refused\n{command}: cannot connect to server fakehost (errno=15010)"),
    ),
    "torque": Kind(
        "TorqueProvider", "pbs", "torque", "qsub", "qstat", "qdel", more=("aprun", "mpiexec", "mpirun"),
        unreachable=(162, "Connection refused\n{command}: cannot connect to server fakehost (errno=111)"),
    ),
    "lsf": Kind(
        "LSFProvider", "lsf", "lsf", "bsub", "bjobs", "bkill", ("bhist",), ("jsrun", "mpiexec", "mpirun"),
        unreachable=(255, "LSF is down. Please wait ..."),
    ),
    "grid_engine": Kind(
        "GridEngineProvider", "grid_engine", "gridengine", "qsub", "qstat", "qdel", ("qacct",), ("mpiexec", "mpirun"),
        forgets=True,
        unreachable=(1, _NO_QMASTER),
    ),
    "condor": Kind(
        "CondorProvider", "condor", "condor", "condor_submit", "condor_q", "condor_rm", ("condor_history",),
        unreachable=(1, "ERROR: Failed to connect to local queue manager"),
    ),
    "flux": Kind(
        "FluxProvider", "flux", "flux", "flux-batch", "flux-jobs", "flux-cancel", more=("flux-run",),
        unreachable=(1, "{command}: ERROR: Unable to connect to Flux: ENOENT: No such file or directory"),
    ),
}  # fmt: skip
"""By the names of the providers' labels."""
