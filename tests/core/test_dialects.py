"""Dialects of batch schedulers, on what real schedulers printed (``data/*.json``) and on made-up answers of others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flowlib.errors import ConfigurationError
from flowlib.jobs.states import JobState
from flowlib.launchers import SimpleLauncher
from flowlib.providers import (
    CondorProvider,
    FluxProvider,
    GridEngineProvider,
    LSFProvider,
    PBSProProvider,
    SlurmProvider,
    TorqueProvider,
)
from flowlib.providers.condor import CondorDialect
from flowlib.providers.dialect import Dialect, Order, QueryFailed, Refusal, Reply, Seen, clock, option_lines, quoted
from flowlib.providers.flux import FluxDialect
from flowlib.providers.grid_engine import GridEngineDialect
from flowlib.providers.lsf import LSFDialect
from flowlib.providers.pbspro import PBSProDialect
from flowlib.providers.slurm import SlurmDialect
from flowlib.providers.torque import TorqueDialect

DATA = {
    kind: json.loads((Path(__file__).parent / "data" / f"{kind}.json").read_text()) for kind in ("slurm", "pbs", "sge")
}
DIALECTS: dict[str, Dialect] = {"slurm": SlurmDialect(), "pbs": PBSProDialect(), "sge": GridEngineDialect()}
S = JobState


class Everything(list[str]):
    """All ids there are."""

    def __contains__(self, id_: object) -> bool:
        return True


def brief(found: dict[str, Seen]) -> dict[str, Any]:
    """State, exit code where told, and "!" where the job is to be removed."""
    return {
        id_: f"{seen.state.name}{'' if seen.exit_code is None else f' {seen.exit_code}'}{' !' * seen.remove}"
        for id_, seen in found.items()
    }


# ----------------------------------------------------------------------------------------------------------- submit

RETRYABLE = {
    "down_sbatch___wrap_", "err_maxsubmit", "err_part_inactive", "err_q_disabled", "err_q_limit", "srvdown_qsub",
    "qmdown_qsub",
}  # fmt: skip
UNSURE = {"hung_sbatch", "err_name_space"}
"""The second is a bad name, but its words are those of a lost answer; such a name is never sent."""


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in DATA for n in DATA[k]["submit"]])
def test_recorded_submissions(kind: str, name: str) -> None:
    """Each answer of a submit command gives the job's id, or is sorted into lost, passing and final refusals."""
    reply = Reply(*DATA[kind]["submit"][name])
    outcome = DIALECTS[kind].read_submit(reply)
    if reply.code == 0:
        number = re.search(r"\d+", reply.stdout)
        assert isinstance(outcome, str)
        assert number is not None
        assert re.match(rf"{number[0]}(\[\])?(\.pbshost)?$", outcome)
    elif name == "qsub_sync":
        assert isinstance(outcome, Refusal), "-sync is no option of ours"
    else:
        assert isinstance(outcome, Refusal)
        assert (outcome.unsure, outcome.retryable) == (name in UNSURE, name in RETRYABLE | UNSURE), reply.stderr


@pytest.mark.parametrize("dialect", [SlurmDialect(), PBSProDialect(), TorqueDialect(), LSFDialect(), CondorDialect(),
                                     FluxDialect(), GridEngineDialect()], ids=lambda d: d.label)  # fmt: skip
def test_submissions_of_all(dialect: Dialect) -> None:
    """No answer in time and no id that can be read are lost answers; a missing command is final."""
    silent = dialect.read_submit(Reply(None))
    assert isinstance(silent, Refusal)
    assert (silent.unsure, silent.retryable) == (True, True)
    garbage = dialect.read_submit(Reply(0, "*** maintenance on Tuesday ***\n"))
    assert isinstance(garbage, Refusal)
    assert garbage.unsure
    missing = dialect.read_submit(Reply(127, "", "sbatch: No such file or directory"))
    assert isinstance(missing, Refusal)
    assert (missing.unsure, missing.retryable) == (False, False)


@pytest.mark.parametrize(
    ("dialect", "printed", "id_"),
    [
        (SlurmDialect(), "Submitted batch job 12 on cluster east\n", "12"),
        (SlurmDialect(), "5;wftest\n", "5"),
        (SlurmDialect(regex_job_id=r"job=(?P<id>\d+)"), "job=77\n", "77"),
        (PBSProDialect(), "welcome to the site\n 31.host.site\n", "31.host.site"),
        (TorqueDialect(), "31\n", "31"),
        (LSFDialect(), "Job <123> is submitted to default queue <normal>.\n", "123"),
        (GridEngineDialect(), 'Your job 4 ("ok") has been submitted\n', "4"),
        (CondorDialect(), "12.0 - 12.3\n", "12.0"),
        (CondorDialect(), "Submitting job(s).\n1 job(s) submitted to cluster 9.\n", "9.0"),
        (FluxDialect(), "ƒ2bx9dq\n", "f2bx9dq"),
        (FluxDialect(), "f2bx9dq\n", "f2bx9dq"),
    ],
)
def test_ids(dialect: Dialect, printed: str, id_: str) -> None:
    """The job's id is found in what each submit command prints."""
    assert dialect.read_submit(Reply(0, printed)) == id_


# ------------------------------------------------------------------------------------------------------------ Slurm


def test_squeue() -> None:
    """States of a busy cluster; jobs that can never start are failures to be removed; completing is not ended."""
    found = SlurmDialect().read_status(Reply(0, DATA["slurm"]["squeue"]), Everything())
    assert brief(found) == {
        **dict.fromkeys(("3", "4", "5", "14", "15_0", "22", "28"), "COMPLETED"),
        **dict.fromkeys(("6", "9", "15_1", "15_2", "15_3", "15_4", "16", "17", "18", "19", "20", "26"), "FAILED"),
        **dict.fromkeys(("24", "25", "23"), "FAILED !"),
        **dict.fromkeys(("11", "13", "21"), "PENDING"),
        **dict.fromkeys(("7", "8", "10"), "RUNNING"),
        "12": "HELD",
    }
    assert found["11"].reason == "Resources"
    assert found["21"].reason == "PartitionDown"
    assert found["23"].reason == "it can never start: PartitionTimeLimit"
    more = {
        name: brief(SlurmDialect().read_status(Reply(0, text), Everything()))
        for name, text in DATA["slurm"]["squeue_more"].items()
    }
    assert more == {
        "nodefail_squeue": {"37": "PENDING", "38": "FAILED"},
        "nodefail_squeue_back": {"37": "PENDING", "38": "FAILED"},
        "squeue_after_cancel": {"10": "RUNNING"},
        "squeue_completing": {"33": "RUNNING"},
        "squeue_completing_after": {"33": "RUNNING"},
        "squeue_preempt": {"36": "RUNNING", "34": "PENDING", "35": "PENDING"},
        "squeue_preempt_later": {"36": "COMPLETED", "34": "PENDING", "35": "RUNNING"},
        "squeue_timeout": {"8": "TIMEOUT"},
    }


def test_sacct() -> None:
    """The accounting tells exit codes, signals as shells do, and jobs whose script never ran."""
    found = SlurmDialect().read_history(Reply(0, DATA["slurm"]["sacct"]), Everything())
    told = brief(found)
    assert {id_: told[id_] for id_ in ("1", "2", "6", "7", "9", "11", "17", "18", "20", "26")} == {
        "1": "COMPLETED 0", "2": "CANCELLED 143", "6": "FAILED 3", "7": "RUNNING", "9": "FAILED 137",
        "11": "PENDING", "17": "FAILED 127", "18": "FAILED", "20": "FAILED 7", "26": "FAILED 1",
    }  # fmt: skip
    assert "its script never ran" in found["18"].reason
    more = DATA["slurm"]["sacct_more"]
    assert brief(SlurmDialect().read_history(Reply(*more["nodefail_sacct"]), Everything())) == {
        "37": "FAILED", "38": "FAILED",
    }  # fmt: skip
    assert brief(SlurmDialect().read_history(Reply(*more["sacct_completion"]), Everything())) == {
        "3": "COMPLETED 0", "6": "FAILED 3",
    }  # fmt: skip
    assert SlurmDialect().read_history(Reply(*more["err_sacct_unknown"]), Everything()) == {}
    for name in ("noacct_sacct", "dbddown_sacct", "sacct_preempt"):
        with pytest.raises(QueryFailed):
            SlurmDialect().read_history(Reply(*more[name]), ["3"])
    text = "3|CANCELLED by 1000|0:15\n4|OUT_OF_MEMORY|0:125\n5|SOMETHING_NEW|0:0\n"
    assert brief(SlurmDialect().read_history(Reply(0, text), ["3", "4", "5"])) == {
        "3": "CANCELLED 143", "4": "FAILED 253", "5": "UNKNOWN",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("slurm", "down_squeue__h", None),
        ("slurm", "hung_squeue", None),
        ("slurm", "noconf_squeue", None),
        ("slurm", "purged_squeue", {}),
        ("slurm", "err_squeue_unknown", {}),
        ("slurm", "squeue_finished_without_t", {}),
        ("pbs", "err_qstat_unknown", {"3": "UNKNOWN"}),
        ("pbs", "err_qstat_unknown_x", {"3": "UNKNOWN"}),
        ("pbs", "err_qstat_garbage", None),
        ("pbs", "qstat_finished_without_x", None),
        ("pbs", "srvdown_qsta", None),
        ("pbs", "srvhung_qstat", None),
        ("pbs", "multi_id_json_x", {"3": "UNKNOWN"}),
        ("sge", "qmdown_qstat", None),
        ("sge", "qmhung_qstat", None),
    ],
)
def test_failed_queries(kind: str, name: str, expected: Any) -> None:
    """An answer that is none is an error (None here); a job is gone only where the scheduler says so of that job."""
    reply, dialect = Reply(*DATA[kind]["query"][name]), DIALECTS[kind]
    if expected is None:
        with pytest.raises(QueryFailed):
            dialect.read_status(reply, ["3"])
    else:
        assert brief(dialect.read_status(reply, ["3"])) == expected
    if name.startswith("err_qstat_unknown"):
        assert dialect.read_status(reply, ["99999.pbshost"]) == {}


def test_squeue_of_a_federation() -> None:
    """Lines that name clusters are no jobs; rubbish is no answer."""
    dialect = SlurmDialect(clusters="east,west")
    assert dialect.status(["1"])[:2] == ["squeue", "--clusters=east,west"]
    assert dialect.cancel(["1"]) == ["scancel", "--clusters=east,west", "1"]
    assert brief(dialect.read_status(Reply(0, "CLUSTER: east\n1|RUNNING|None\nCLUSTER: west\n"), ["1"])) == {
        "1": "RUNNING"
    }
    with pytest.raises(QueryFailed, match="maintenance"):
        dialect.read_status(Reply(0, "*** maintenance ***\n"), ["1"])


# -------------------------------------------------------------------------------------------------------------- PBS


def test_qstat() -> None:
    """States and exit codes of PBS: signals as shells do, walltime, deletion, jobs that can never run."""
    ids = re.findall(r"Job Id: (\S+?)\|", DATA["pbs"]["all"])
    found = PBSProDialect().read_status(Reply(0, DATA["pbs"]["all"]), ids)
    assert {id_.partition(".")[0]: text for id_, text in brief(found).items()} == {
        **dict.fromkeys(("0", "1", "14"), "COMPLETED 0"),
        **dict.fromkeys(("3", "4", "5", "15", "16"), "RUNNING"),
        **dict.fromkeys(("6", "8", "17", "18", "19", "24", "25", "26"), "PENDING"),
        "2": "FAILED 3", "7": "HELD", "9[]": "FAILED 1", "10": "FAILED 137", "11": "FAILED 143", "12": "FAILED 127",
        "13": "FAILED 254", "27": "CANCELLED", "28": "FAILED !", "29": "FAILED !",
    }  # fmt: skip
    assert found["6.pbshost"].reason.startswith("Not Running: Insufficient amount of resource: ncpus")
    later = {n: PBSProDialect().read_status(Reply(0, t), ["3", "39"]) for n, t in DATA["pbs"]["later"].items()}
    assert brief(later["state_after"])["3"] == "CANCELLED 143"
    assert brief(later["momdown_qstat"])["39"] == "RUNNING"
    assert brief(later["momback_qstat"])["39"] == "CANCELLED"
    whole = PBSProDialect().read_status(Reply(0, DATA["pbs"]["dsv"]), ["1.pbshost", "2.pbshost"])
    assert brief(whole) == {"1.pbshost": "COMPLETED 0", "2.pbshost": "FAILED 3"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("job_state=F|comment=x exceeded resource walltime|Exit_status=-29", "TIMEOUT"),
        ("job_state=F|substate=93|Exit_status=-4", "FAILED"),
        ("job_state=F|Exit_status=266", "FAILED 138"),
        ("job_state=S", "HELD"),
        ("job_state=?", "UNKNOWN"),
        ("job_state=M", "RUNNING"),
    ],
)
def test_qstat_rarities(fields: str, expected: str) -> None:
    """Codes that PBS itself sets, and states that are seldom seen."""
    assert brief(PBSProDialect().read_status(Reply(0, f"Job Id: 3.host|{fields}\n"), ["3.host"])) == {
        "3.host": expected
    }


def test_qstat_in_full() -> None:
    """The long text of ``qstat -f``, with folded values, says the same; Torque's own words for ended jobs, too."""
    ids = re.findall(r"Job Id: (\S+)", DATA["pbs"]["full"])
    found = TorqueDialect().read_status(Reply(0, DATA["pbs"]["full"]), ids)
    assert brief(found) == {
        "1.pbshost": "COMPLETED 0", "2.pbshost": "FAILED 3", "4.pbshost": "RUNNING", "10.pbshost": "FAILED 137",
        "13.pbshost": "FAILED 254", "19.pbshost": "PENDING",
    }  # fmt: skip
    assert found["19.pbshost"].reason == "Not Running: Insufficient amount of resource: mem (R: 50mb A: 0kb T: 16gb)"
    text = "Job Id: 5.h\n    Job_Name = a\n    job_state = C\n    exit_status = -11\n\nJob Id: 6.h\n    job_state = C\n    exit_status = 271\n"
    reply = Reply(153, text, "qstat: Unknown Job Id Error 9.h\n")
    assert brief(TorqueDialect().read_status(reply, ["5.h", "6.h", "9.h"])) == {"5.h": "TIMEOUT", "6.h": "FAILED 143"}
    assert TorqueDialect().read_find(Reply(0, text), "a") == ["5.h"]


# ------------------------------------------------------------------------------------------------------ Grid Engine


@pytest.mark.parametrize("name", ["xml", "xml_grouped", "xml_queues"])
def test_qstat_xml(name: str) -> None:
    """Running and pending jobs, held ones, and those in an error state, which are to be removed."""
    found = GridEngineDialect().read_status(Reply(0, DATA["sge"][name]), Everything())
    assert brief(found) == {
        "7": "RUNNING", "19": "PENDING", "14": "PENDING", "12": "HELD", "15": "FAILED !", "16": "FAILED !",
        "32": "FAILED !",
    }  # fmt: skip
    assert GridEngineDialect().read_find(Reply(0, DATA["sge"][name]), "long") == ["7"]


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("qw", "PENDING"), ("hqw", "HELD"), ("Eqw", "FAILED !"), ("r", "RUNNING"), ("dr", "RUNNING"),
        ("z", "COMPLETED"), ("t", "RUNNING"), ("Rr", "RUNNING"), ("hRwq", "HELD"), ("s", "HELD"), ("S", "HELD"),
        ("dt", "RUNNING"), ("Ehqw", "FAILED !"), ("?", "UNKNOWN"), ("", "UNKNOWN"),
    ],
)  # fmt: skip
def test_letters(letters: str, expected: str) -> None:
    """A job that is being deleted or transferred still lives; a suspended one is held."""
    text = f"<a><job_list><JB_job_number>3</JB_job_number><state>{letters}</state></job_list></a>"
    assert brief(GridEngineDialect().read_status(Reply(0, text), ["3"])) == {"3": expected}
    assert set(DATA["sge"]["letters"]) <= {"Eqw", "dr", "hqw", "qw", "r", "z"}


def test_qacct() -> None:
    """The accounting tells walltime, deletion, files that could not be opened, and codes with words behind them."""
    found: dict[str, str] = {}
    for name, answer in DATA["sge"]["qacct"].items():
        if name != "execd_qacct":
            ids = ["4", "6", "7", "9", "10", "11", "16", "17", "22"]
            found |= brief(GridEngineDialect().read_history(Reply(*answer), ids))
    assert found == {
        "4": "COMPLETED 0", "6": "FAILED 3", "7": "CANCELLED 137", "9": "TIMEOUT 137", "10": "FAILED 1",
        "11": "FAILED 4", "16": "FAILED", "17": "FAILED 127", "22": "FAILED 137",
    }  # fmt: skip
    assert GridEngineDialect().read_status(Reply(0, ""), ["4"]) == {}


# ------------------------------------------------------------------------------------------------ LSF, Condor, Flux


def test_bjobs() -> None:
    """States of LSF; suspended jobs are held, not ended; a job is gone only if LSF says so of that job."""
    text = (
        "1|PEND|-|-\n2|RUN|-|-\n3|DONE|-|-\n4|EXIT|3|-\n5|EXIT|140|TERM_RUNLIMIT: job killed after reaching LSF run "
        "time limit\n6|EXIT|130|TERM_OWNER: job killed by owner\n7|SSUSP|-|-\n8|UNKWN|-|-\n"
    )
    ids = [str(n) for n in range(1, 11)]
    reply = Reply(255, text, "Job <9> is not found\n")
    assert brief(LSFDialect().read_status(reply, ids)) == {
        "1": "PENDING", "2": "RUNNING", "3": "COMPLETED 0", "4": "FAILED 3", "5": "TIMEOUT 140", "6": "CANCELLED 130",
        "7": "HELD", "8": "UNKNOWN", "10": "UNKNOWN",
    }  # fmt: skip
    with pytest.raises(QueryFailed, match="LSF is down"):
        LSFDialect().read_status(Reply(255, "", "LSF is down. Please wait ..."), ids)


def test_bhist() -> None:
    """How a job ended is found in folded lines."""
    text = """
Job <41>, Job Name <flowlib.htex.block-0.ab12>, User <u>, Project <p>, Comma
                     nd <#!/bin/bash>
Mon Nov 23 10:00:00: Submitted from host <login1>, to Queue <batch>;
Mon Nov 23 10:10:00: Exited; job has been forced to exit with exit code 140.
                     Completed <exit>; TERM_RUN
                     LIMIT: job killed after reaching LSF run time limit;

Job <42>, Job Name <x>, User <u>
Mon Nov 23 10:10:00: Exited with exit co
                     de 3. The CPU time used is 0.1 seconds;

Job <43>, Job Name <x>, User <u>
Mon Nov 23 10:10:00: Done successfully. The CPU time used is 0.1 seconds;
"""
    found = LSFDialect().read_history(Reply(0, text), ["41", "42", "43", "44"])
    assert brief(found) == {"41": "TIMEOUT", "42": "FAILED 3", "43": "COMPLETED 0"}
    assert LSFDialect().read_history(Reply(255, "", "No matching job found"), ["44"]) == {}


def test_condor_q() -> None:
    """States of HTCondor; ids with more than one digit; a job that is held keeps its reason."""

    def row(n: int, *rest: object) -> str:
        return "\t".join(map(str, (n, 0, *rest)))

    none = "undefined"
    text = "\n".join(
        [
            row(10, 1, none, none, none, none, none), row(11, 2, none, none, none, none, none),
            row(12, 4, "false", 0, none, none, none), row(13, 4, "false", 3, none, none, none),
            row(14, 4, "true", none, 9, none, none), row(15, 5, none, none, none, "Out of quota", none),
            row(16, 3, none, none, none, none, "via condor_rm (by user u)"),
            row(17, 3, none, none, none, none, "The job attribute PeriodicRemove expression evaluated to TRUE"),
            row(18, 9, none, none, none, none, none),
        ]
    )  # fmt: skip
    found = CondorDialect().read_status(Reply(0, text), [f"{n}.0" for n in range(10, 20)])
    assert brief(found) == {
        "10.0": "PENDING", "11.0": "RUNNING", "12.0": "COMPLETED 0", "13.0": "FAILED 3", "14.0": "FAILED 137",
        "15.0": "HELD", "16.0": "CANCELLED", "17.0": "TIMEOUT", "18.0": "UNKNOWN",
    }  # fmt: skip
    assert found["15.0"].reason == "Out of quota"
    with pytest.raises(QueryFailed):
        CondorDialect().read_status(Reply(0, "-- Schedd: a\n"), ["10.0"])


def test_flux_jobs() -> None:
    """States and results of Flux, whichever letter begins an id."""
    text = (
        "ƒa|SCHED|||\nfb|RUN|||\nƒc|INACTIVE|COMPLETED|0|\nƒd|INACTIVE|FAILED|3|\nƒe|INACTIVE|TIMEOUT|142|ran out\n"
        "ƒg|INACTIVE|CANCELED||user\nƒh|CLEANUP|||\nƒi|INACTIVE|FAILED|-9|\n"
    )
    ids = ["fa", "fb", "fc", "fd", "fe", "fg", "fh", "fi", "fk"]
    assert brief(FluxDialect().read_status(Reply(1, text, "flux-jobs: ERROR: JobID ƒk unknown"), ids)) == {
        "fa": "PENDING", "fb": "RUNNING", "fc": "COMPLETED 0", "fd": "FAILED 3", "fe": "TIMEOUT 142",
        "fg": "CANCELLED", "fh": "RUNNING", "fi": "FAILED 137",
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- cancel


@pytest.mark.parametrize(
    ("kind", "name", "ids", "expected"),
    [
        ("slurm", "down_scancel__", ["3"], [False]),
        ("slurm", "err_scancel_unknown", ["999999"], [True]),
        ("slurm", "scancel_running", ["10"], [True]),
        ("slurm", "scancel_twice", ["10"], [True]),
        ("slurm", "err_scancel_garbage", ["abc"], [False]),
        ("pbs", "qdel_running", ["3"], [True]),
        ("pbs", "qdel_many", ["8", "99999", "15", "24"], [True] * 4),
        ("pbs", "err_qdel_finished", ["1"], [True]),
        ("pbs", "srvdown_qdel", ["50"], [False]),
        ("pbs", "momdown_qdel", ["39.pbshost", "40.pbshost"], [False, True]),
        ("sge", "qdel_many", ["12", "99999", "19", "20"], [True, True, True, False]),
        ("sge", "qdel_running", ["7"], [True]),
        ("sge", "qmdown_qdel", ["4"], [False]),
    ],
)
def test_recorded_cancels(kind: str, name: str, ids: list[str], expected: list[bool]) -> None:
    """A job that is not there needs no end; one that could not be reached was not ended."""
    assert DIALECTS[kind].read_cancel(Reply(*DATA[kind]["cancel"][name]), ids) == expected


# ---------------------------------------------------------------------------------------------------------- scripts


@pytest.mark.parametrize(
    ("provider", "lines"),
    [
        (
            SlurmProvider(
                "gpu", "m1", "debug", "a100&nvme", "east", 2, 64, 200, 4, "nvme:1", walltime="1-02:30:00",
                scheduler_options="#SBATCH --mail-type=END\n--reservation=x", exclusive=True,
            ),
            [
                "#SBATCH --nodes=2", "#SBATCH --no-requeue", "#SBATCH --time=26:30:00", "#SBATCH --mail-type=END", "#SBATCH --reservation=x",
                "#SBATCH --exclusive", "#SBATCH --partition=gpu", "#SBATCH --account=m1", "#SBATCH --qos=debug",
                '#SBATCH --constraint="a100&nvme"', "#SBATCH --clusters=east", "#SBATCH --gpus-per-node=4",
                "#SBATCH --gres=nvme:1", "#SBATCH --mem=200g", "#SBATCH --cpus-per-task=32",
                "#SBATCH --ntasks-per-node=2", "export FLOWLIB_CORES=32", "export FLOWLIB_MEMORY_GB=100",
            ],
        ),
        (
            PBSProProvider("acc", "q", "-l place=scatter", ":ngpus=4", "", 3, 32, walltime="90m"),
            [
                "#PBS -S /bin/bash", "#PBS -l select=3:ncpus=32:ngpus=4", "#PBS -l walltime=01:30:00", "#PBS -q q",
                "#PBS -A acc", "#PBS -l place=scatter",
            ],
        ),
        (
            TorqueProvider("acc", "q", nodes_per_block=3, launcher=SimpleLauncher()),
            ["#PBS -l nodes=3:ppn=2", "#PBS -l walltime=00:20:00", "#PBS -A acc", "#PBS -q q"],
        ),
        (LSFProvider(2, project="p", queue="q", walltime="1h30m1s"), ["#BSUB -nnodes 2", "#BSUB -W 91", "#BSUB -P p"]),
        (
            LSFProvider(2, None, 20, request_by_nodes=False),
            ["#BSUB -n 40", '#BSUB -R "span[ptile=20]"'],
        ),
        (
            GridEngineProvider(scheduler_options="#$ -pe smp 8", queue="all.q", walltime="100:00:00"),
            ["#$ -S /bin/bash", "#$ -l h_rt=100:00:00", "#$ -q all.q", "#$ -pe smp 8"],
        ),
        (
            CondorProvider(
                2, 4, 1.5, environment={"A": "x y", "B": 'q"q', "C": "it's"}, project="p", requirements="(Arch == 1)",
                transfer_input_files=["a", "b"], scheduler_options="rank = Memory", walltime="1h",
            ),
            [
                "universe = parallel", "machine_count = 2", "request_cpus = 4", "request_memory = 1536",
                "environment = \"A='x y' B=q\"\"q C='it''s'\"", '+ProjectName = "p"', "requirements = (Arch == 1)",
                "transfer_input_files = a, b", "rank = Memory", "queue",
                "periodic_remove = JobStatus == 2 && time() - EnteredCurrentStatus > 3600",
            ],
        ),
        (
            FluxProvider("pdebug", "bank", 2, 32, 4, exclusive=False, walltime="1h"),
            [
                "# flux: --nodes=2", "# flux: --nslots=4", "# flux: --cores-per-slot=16", "# flux: --gpus-per-slot=2",
                "# flux: --queue=pdebug", "# flux: --bank=bank", "# flux: --time-limit=3600s", "export FLOWLIB_CORES=16",
            ],
        ),
    ],
    ids=lambda p: getattr(p, "label", None),
)  # fmt: skip
def test_scripts(provider: Any, lines: list[str]) -> None:
    """Every parameter is in the script, once; the script begins with the interpreter and is the same each time."""
    text = provider.render_script("sh /run/start.sh", 2, "flowlib.htex.block-0")
    assert text.startswith("#!/bin/bash\n")
    found = text.splitlines()
    for line in lines:
        assert found.count(line) == 1, f"{line}\n\n{text}"
    assert "sh /run/start.sh" in text
    assert provider.render_script("sh /run/start.sh", 2, "flowlib.htex.block-0") == text
    first = next(n for n, line in enumerate(found[1:]) if line and not line.startswith("#"))
    directive = getattr(provider.dialect, "directive", "#")
    assert not any(line.startswith(directive) and directive != "#" for line in found[first + 1 :]), "none is too late"


@pytest.mark.parametrize("name", ["flowlib.htex.block-12", "0", "x" * 200, "a b/c"])
@pytest.mark.parametrize("dialect", [SlurmDialect(), TorqueDialect(), GridEngineDialect()], ids=lambda d: d.label)
def test_job_names(dialect: Dialect, name: str) -> None:
    """Names begin with a letter, are not too long, and differ in what comes last."""
    from flowlib.providers.base import safe_name

    made = dialect.job_name(safe_name(name), "abcdef12")
    assert re.fullmatch(r"[A-Za-z][\w.-]*", made)
    assert len(made) <= dialect.name_limit
    assert made.endswith(".abcdef12")


def test_line_breaks_in_paths_are_refused() -> None:
    """No quoting helps where a directive ends with its line."""
    order = Order("n", 1, 1, 60, "/tmp/a\nb.sh")
    for dialect in (SlurmDialect(), PBSProDialect(), LSFDialect(), GridEngineDialect(), CondorDialect(), FluxDialect()):
        with pytest.raises(ConfigurationError, match="line break"):
            dialect.files(order, [])


def test_wrong_arguments() -> None:
    """What is particular to one provider is checked, too."""
    with pytest.raises(ConfigurationError, match="regex_job_id"):
        SlurmProvider(regex_job_id="job (")
    with pytest.raises(ConfigurationError, match=r"\(\?P<id>"):
        SlurmProvider(regex_job_id="job (.*)")
    with pytest.raises(ConfigurationError, match="cores_per_node"):
        SlurmProvider(cores_per_node=0)
    with pytest.raises(ConfigurationError, match="cores_per_block or cores_per_node"):
        LSFProvider(request_by_nodes=False)
    with pytest.warns(UserWarning, match="-pe mpi"):
        GridEngineProvider(nodes_per_block=2)


def test_small_things() -> None:
    """Times are rounded up, values are quoted where they must be, options lose the directive."""
    assert [clock(s) for s in (59.2, 3600, 360000)] == ["00:01:00", "01:00:00", "100:00:00"]
    assert [quoted(v) for v in ("a.b/c", "a b", 'a"b\\')] == ["a.b/c", '"a b"', '"a\\"b\\\\"']
    assert option_lines("  #PBS -l a=1 \n\n-M me@x\n", "#PBS") == ["-l a=1", "-M me@x"]
