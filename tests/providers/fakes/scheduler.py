"""A small batch scheduler that speaks like the real ones: each of their commands is this program under another name.

Its state is a directory, named by ``FAKE_SCHEDULER``:

* ``jobs/N.json``: what it knows of job N; ``history/N.json``: ended jobs, for those whose queue forgets them at once.
* ``hold``: as long as it is there, jobs stay pending.
* ``faults/COMMAND``: what the next calls of a command do instead of answering, a line for each: ``hang``,
  ``make-and-hang`` (the job is made, the answer never comes), ``garbage``, ``ok``, or ``fail CODE TEXT``; a line
  ``always ...`` stays.
* ``calls``: the command lines so far.

Jobs are run for real, each by a process of its own that enforces the walltime.
"""

# ruff: noqa: D103 - most functions here are the command that they are named after
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Job = dict[str, Any]
HERE = Path(os.environ.get("FAKE_SCHEDULER", "/nonexistent"))
PATIENCE = 60
SIGNALS = {signal.SIGTERM, signal.SIGCHLD}
"""Those that the runner of a job waits for; blocked, so that none comes early."""
COMMANDS = {
    "slurm": ["sbatch", "squeue", "scancel", "sacct"],
    "pbspro": ["qsub", "qstat", "qdel"],
    "torque": ["qsub", "qstat", "qdel"],
    "grid_engine": ["qsub", "qstat", "qdel", "qacct"],
    "lsf": ["bsub", "bjobs", "bkill", "bhist"],
    "condor": ["condor_submit", "condor_q", "condor_rm", "condor_history"],
    "flux": ["flux"],
}
"""Submit, query, cancel, accounting."""
FORGETS = {"grid_engine"}
"""Those whose queue knows only jobs that did not end."""


def main(kind: str, command: str, args: list[str]) -> int:
    """Do what the command does."""
    with open(HERE / "calls", "a") as calls:
        calls.write(" ".join([command, *args]) + "\n")
    if kind == "flux":
        command, args = f"flux-{args[0]}", args[1:]
    fault = next_fault(command)
    if fault.startswith("fail "):
        _, code, text = fault.split(" ", 2)
        print(text, file=sys.stderr)
        return int(code)
    if fault == "garbage":
        print("*** Welcome to the machine. Maintenance on Tuesday! ***")
        return 0
    if fault == "hang":
        return hang()
    found = globals()[f"{kind}_{command.replace('-', '_').removeprefix('flux_').removeprefix('condor_')}"]
    sys.stdout.flush()
    if fault == "make-and-hang":
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
            found(args)
        return hang()
    return int(found(args) or 0)


def hang() -> int:
    signal.sigtimedwait({signal.SIGUSR2}, PATIENCE)
    return 1


def next_fault(command: str) -> str:
    path = HERE / "faults" / command
    if not path.exists():
        return "ok"
    with open(path, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().splitlines()
        if lines and lines[0].startswith("always "):
            return lines[0].removeprefix("always ")
        file.seek(0)
        file.truncate()
        file.write("\n".join(lines[1:]))
    return lines[0] if lines else "ok"


# ------------------------------------------------------------------------------------------------------------- jobs


def save(job: Job, where: str = "jobs") -> None:
    path = HERE / where / f"{job['n']}.json"
    path.with_suffix(f".{os.getpid()}").write_text(json.dumps(job))
    path.with_suffix(f".{os.getpid()}").replace(path)


def load(n: int | str, where: str = "jobs") -> Job | None:
    try:
        found: Job = json.loads((HERE / where / f"{n}.json").read_text())
    except FileNotFoundError:
        return None
    return found


def all_jobs(where: str = "jobs") -> list[Job]:
    found = [load(path.stem, where) for path in sorted((HERE / where).glob("*.json"))]
    return [job for job in found if job is not None]


def seconds(text: str) -> float:
    total = 0.0
    for part in text.removesuffix("s").split(":"):
        total = total * 60 + float(part)
    return total


def make(kind: str, script: str, options: dict[str, str]) -> int:
    """Queue a job; its number."""
    with open(HERE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        n = len(list((HERE / "seen").iterdir())) + 1
        (HERE / "seen" / str(n)).touch()
    job = {"n": n, "kind": kind, "script": script, "state": "pending", "reason": "Resources", "code": None, **options}
    save(job)
    # Blocked from its first moment: a cancel must not end the runner before it can record that.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    runner = subprocess.Popen(
        [sys.executable, "-S", "-E", __file__, "run", str(n)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    (HERE / "runners" / str(n)).write_text(str(runner.pid))
    return n


def run(n: str) -> None:
    """The life of a job, in its own process."""
    deadline = time.monotonic() + PATIENCE
    job = load(n)
    assert job is not None
    told = False
    while (HERE / "hold").exists() and time.monotonic() < deadline and not told:
        got = signal.sigtimedwait({signal.SIGTERM}, 0.02)
        told = got is not None
    if told:
        return finish(job, "cancelled", None)
    job["state"] = "running"
    job["reason"] = ""
    if not load(n):
        return None
    save(job)
    environment = {k: v for k, v in os.environ.items() if k != "FAKE_SCHEDULER"}
    environment["FLOWLIB_TEST_NODE"] = "n1"
    with open(job["out"], "wb") as out, open(job["err"], "wb") as err:
        process = subprocess.Popen(
            ["/bin/bash", job["script"]], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment,
            start_new_session=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS),  # noqa: PLW1509 - one thread only
        )  # fmt: skip
    end = time.monotonic() + min(float(job["walltime"]), PATIENCE)
    why = ""
    while process.poll() is None:
        left = end - time.monotonic()
        got = signal.sigtimedwait(SIGNALS, max(0.0, left)) if left > 0 else None
        if process.poll() is not None:
            break
        if got is None:
            why = "timeout"
        elif got.si_signo == signal.SIGTERM:
            why = "cancelled"
        else:
            continue
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
    code = process.wait(PATIENCE)
    return finish(job, why or ("failed" if code else "completed"), code)


def finish(job: Job, state: str, code: int | None) -> None:
    job["state"], job["code"], job["reason"] = state, code, ""
    save(job, "history")
    path = HERE / "jobs" / f"{job['n']}.json"
    if job["kind"] in FORGETS:
        path.unlink(missing_ok=True)
    elif path.exists():
        save(job)


def end(job: Job) -> None:
    if job["state"] in ("pending", "running"):
        os.kill(int((HERE / "runners" / str(job["n"])).read_text()), signal.SIGTERM)


def numbers(args: list[str]) -> list[str]:
    return [m[1] for a in args for b in a.split(",") if (m := re.fullmatch(r"f?(\d+)(?:\.\w+)?", b))]


def directives(text: str, start: str) -> list[str]:
    return [line[len(start) :].strip() for line in text.splitlines() if line.startswith(start)]


def value(lines: list[str], pattern: str, otherwise: str = "") -> str:
    for line in lines:
        if match := re.fullmatch(pattern, line):
            text = match[1].strip()
            if text.startswith('"'):
                text = re.sub(r"\\(.)", r"\1", text[1:-1])
            return text
    return otherwise


def shell_code(job: Job) -> int:
    code = job["code"] or 0
    return 128 - code if code < 0 else code


# ------------------------------------------------------------------------------------------------------------ Slurm

SLURM = {
    "pending": "PENDING", "running": "RUNNING", "completed": "COMPLETED", "failed": "FAILED",
    "cancelled": "CANCELLED", "timeout": "TIMEOUT",
}  # fmt: skip


def slurm_sbatch(args: list[str]) -> int:
    lines = directives(Path(args[-1]).read_text(), "#SBATCH")
    if value(lines, "--partition=(.*)") == "nosuch":
        print("sbatch: error: invalid partition specified: nosuch", file=sys.stderr)
        print("sbatch: error: Batch job submission failed: Invalid partition name specified", file=sys.stderr)
        return 1
    options = {
        "name": value(lines, "--job-name=(.*)"),
        "out": value(lines, "--output=(.*)").replace("%%", "%"),
        "err": value(lines, "--error=(.*)").replace("%%", "%"),
        "walltime": seconds(value(lines, "--time=(.*)")),
    }
    print(f"Submitted batch job {make('slurm', args[-1], options)}")
    return 0


def slurm_squeue(args: list[str]) -> int:
    pattern = args[args.index("-o") + 1]
    found = all_jobs()
    if "-j" in args:
        wanted = numbers([args[args.index("-j") + 1]])
        found = [job for job in found if str(job["n"]) in wanted]
        if not found and len(wanted) == 1:
            print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
            return 1
    if "--name" in args:
        found = [job for job in found if job["name"] == args[args.index("--name") + 1]]
    for job in found:
        fields = {"i": job["n"], "T": SLURM[job["state"]], "r": job["reason"] or "None", "j": job["name"]}
        print(re.sub(r"%(\w)", lambda m, f=fields: str(f[m[1]]), pattern))
    return 0


def slurm_scancel(args: list[str]) -> int:
    for n in numbers(args):
        if job := load(n):
            end(job)
    return 0


def slurm_sacct(args: list[str]) -> int:
    if (HERE / "no-accounting").exists():
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    for n in numbers([args[args.index("-j") + 1]]):
        if job := load(n, "history") or load(n):
            code = job["code"] or 0
            print(f"{n}|{SLURM[job['state']]}|{f'{code}:0' if code >= 0 else f'0:{-code}'}")
    return 0


# -------------------------------------------------------------------------------------------------------------- PBS


def pbs_submit(kind: str, args: list[str]) -> int:
    lines = directives(Path(args[-1]).read_text(), "#PBS")
    options = {
        "name": value(lines, "-N (.*)"),
        "out": value(lines, "-o (.*)"),
        "err": value(lines, "-e (.*)"),
        "walltime": seconds(value(lines, "-l walltime=(.*)")),
    }
    print(f"{make(kind, args[-1], options)}.fakehost")
    return 0


def pbs_fields(job: Job) -> dict[str, Any]:
    ended = job["state"] not in ("pending", "running")
    last = "F" if job["kind"] == "pbspro" else "C"
    fields = {
        "Job_Name": job["name"],
        "job_state": {"pending": "Q", "running": "R"}.get(job["state"], last),
        "queue": "workq",
        "Variable_List": "PBS_O_HOME=/home/u,PBS_O_LANG=C",
    }
    if job["state"] == "pending":
        fields["comment"] = "Not Running: Insufficient amount of resource: ncpus"
    if ended and job["code"] is not None:
        code = job["code"]
        name = "Exit_status" if job["kind"] == "pbspro" else "exit_status"
        timeout = -29 if job["kind"] == "pbspro" else -11
        fields[name] = timeout if job["state"] == "timeout" else 256 - code if code < 0 else code
    return fields


def pbs_list(args: list[str], style: str) -> int:
    wanted = numbers(args)
    code = 0
    for n in wanted or [str(job["n"]) for job in all_jobs()]:
        job = load(n)
        if job is None:
            word = "Unknown Job Id" if style == "dsv" else "Unknown Job Id Error"
            print(f"qstat: {word} {n}.fakehost", file=sys.stderr)
            code = 153
        elif style == "dsv":
            pairs = "|".join(f"{k}={v}" for k, v in pbs_fields(job).items())
            print(f"Job Id: {n}.fakehost|{pairs}")
        else:
            print(f"Job Id: {n}.fakehost")
            for name, text in pbs_fields(job).items():
                folded = re.sub(r",", ",\n\t", str(text))
                print(f"    {name} = {folded}")
            print()
    return code


def pbs_delete(args: list[str]) -> int:
    code = 0
    for n in numbers(args):
        job = load(n)
        if job is None:
            print(f"qdel: Unknown Job Id {n}.fakehost", file=sys.stderr)
            code = 153
        elif job["state"] not in ("pending", "running"):
            print(f"qdel: Job has finished {n}.fakehost", file=sys.stderr)
            code = 35
        else:
            end(job)
    return code


def pbspro_qsub(args: list[str]) -> int:
    return pbs_submit("pbspro", args)


def pbspro_qstat(args: list[str]) -> int:
    return pbs_list(args, "dsv")


def pbspro_qdel(args: list[str]) -> int:
    return pbs_delete(args)


def torque_qsub(args: list[str]) -> int:
    return pbs_submit("torque", args)


def torque_qstat(args: list[str]) -> int:
    return pbs_list(args, "full")


def torque_qdel(args: list[str]) -> int:
    return pbs_delete(args)


# ------------------------------------------------------------------------------------------------------ Grid Engine


def grid_engine_qsub(args: list[str]) -> int:
    lines = directives(Path(args[-1]).read_text(), "#$")
    options = {
        "name": value(lines, "-N (.*)"),
        "out": value(lines, "-o (.*)"),
        "err": value(lines, "-e (.*)"),
        "walltime": seconds(value(lines, "-l h_rt=(.*)")),
    }
    print(make("grid_engine", args[-1], options))
    return 0


def grid_engine_qstat(args: list[str]) -> int:
    rows: dict[str, list[str]] = {"running": [], "pending": []}
    for job in all_jobs():
        letters = "r" if job["state"] == "running" else "qw"
        rows[job["state"]].append(
            f'<job_list state="{job["state"]}"><JB_job_number>{job["n"]}</JB_job_number>'
            f"<JB_name>{job['name']}</JB_name><state>{letters}</state></job_list>"
        )
    print("<?xml version='1.0'?>\n<job_info>")
    print(f"<queue_info>{''.join(rows['running'])}</queue_info><job_info>{''.join(rows['pending'])}</job_info>")
    print("</job_info>")
    return 0


def grid_engine_qdel(args: list[str]) -> int:
    code = 0
    for n in numbers(args):
        job = load(n)
        if job is None:
            print(f'denied: job "{n}" does not exist')
            code = 1
        else:
            end(job)
            print(f"user has registered the job {n} for deletion")
    return code


def grid_engine_qacct(args: list[str]) -> int:
    n = args[args.index("-j") + 1]
    job = load(n, "history")
    if job is None:
        print(f"error: job id {n} not found", file=sys.stderr)
        return 1
    failure = {
        "timeout": "37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "cancelled": "100 : assumedly after job",
    }.get(job["state"], "0    ")  # fmt: skip
    print("=" * 62)
    print(f"jobname      {job['name']}\njobnumber    {n}\nfailed       {failure}")
    code = shell_code(job)
    print(f"exit_status  {code}{'                  (Killed)' if code == 137 else ''}")
    return 0


# -------------------------------------------------------------------------------------------------------------- LSF


def lsf_bsub(args: list[str]) -> int:
    text = Path(args[-1]).read_text() if args else sys.stdin.read()
    script = args[-1] if args else ""
    if not args:
        fd = os.open(HERE / f"spool.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with open(fd, "w") as file:
            file.write(text)
        script = str(HERE / f"spool.{os.getpid()}")
    lines = directives(text, "#BSUB")
    options = {
        "name": value(lines, "-J (.*)"),
        "out": value(lines, "-o (.*)").replace("%%", "%"),
        "err": value(lines, "-e (.*)").replace("%%", "%"),
        # Minutes; here seconds, for the tests' sake.
        "walltime": float(value(lines, "-W (.*)")),
    }
    print(f"Job <{make('lsf', script, options)}> is submitted to default queue <normal>.")
    return 0


def lsf_bjobs(args: list[str]) -> int:
    words = {"pending": "PEND", "running": "RUN", "completed": "DONE"}
    reasons = {"timeout": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
               "cancelled": "TERM_OWNER: job killed by owner"}  # fmt: skip
    code = 0
    if "-J" in args:
        name = args[args.index("-J") + 1]
        rows = [f"{job['n']}|{name}" for job in all_jobs() if job["name"] == name]
        print("\n".join(rows) if rows else "", end="\n" if rows else "")
        if not rows:
            print(f"Job <{name}> is not found", file=sys.stderr)
            return 255
        return 0
    for n in numbers(args):
        job = load(n)
        if job is None:
            print(f"Job <{n}> is not found", file=sys.stderr)
            code = 255
            continue
        exit_code = "-" if job["code"] is None or job["state"] == "completed" else str(shell_code(job))
        print(f"{n}|{words.get(job['state'], 'EXIT')}|{exit_code}|{reasons.get(job['state'], '-')}")
    return code


def lsf_bkill(args: list[str]) -> int:
    code = 0
    for n in numbers(args):
        job = load(n)
        if job is None:
            print(f"Job <{n}>: No matching job found", file=sys.stderr)
            code = 255
        elif job["state"] not in ("pending", "running"):
            print(f"Job <{n}>: Job has already finished", file=sys.stderr)
            code = 255
        else:
            end(job)
            print(f"Job <{n}> is being terminated")
    return code


def lsf_bhist(args: list[str]) -> int:
    code = 0
    for n in numbers(args):
        job = load(n, "history")
        if job is None:
            print("No matching job found", file=sys.stderr)
            code = 255
            continue
        ends = {
            "completed": "Done successfully. The CPU time used is 0.1 seconds",
            "timeout": "Exited; job has been forced to exit with exit code 143. Completed <exit>; TERM_RUNLIMIT: "
            "job killed after reaching LSF run time limit",
        }
        story = ends.get(job["state"], f"Exited with exit code {shell_code(job)}. The CPU time used is 0.1 seconds")
        text = f"Mon Nov 23 10:00:00: {story};"
        folded = "\n                     ".join(text[i : i + 58] for i in range(0, len(text), 58))
        print(f"\nJob <{n}>, Job Name <{job['name']}>, User <u>, Project <default>, Command <x>\n{folded}\n")
    return code


# ----------------------------------------------------------------------------------------------------------- Condor


def condor_submit(args: list[str]) -> int:
    pairs = (line.partition(" = ") for line in Path(args[-1]).read_text().splitlines())
    fields = {name: text.replace("$(DOLLAR)", "$") for name, _, text in pairs}
    options = {
        "name": fields["batch_name"],
        "out": fields["output"],
        "err": fields["error"],
        "walltime": float(fields["periodic_remove"].rpartition(">")[2]),
    }
    n = make("condor", fields["executable"], options)
    print(f"{n}.0 - {n}.0")
    return 0


def condor_row(job: Job) -> str:
    number = {"pending": 1, "running": 2, "cancelled": 3, "timeout": 3}.get(job["state"], 4)
    code = job["code"]
    signalled = code is not None and code < 0
    remove = {"timeout": "The job attribute PeriodicRemove expression evaluated to TRUE", "cancelled": "via condor_rm"}
    row = [
        job["n"], 0, number, str(signalled).lower() if number == 4 else "undefined",
        code if number == 4 and not signalled else "undefined", -code if number == 4 and signalled else "undefined",
        "undefined", remove.get(job["state"], "undefined"),
    ]  # fmt: skip
    return "\t".join(map(str, row))


def condor_q(args: list[str]) -> int:
    if "-constraint" in args:
        name = args[args.index("-constraint") + 1].split('"')[1]
        for job in all_jobs():
            if job["name"] == name:
                print(f"{job['n']}\t0\t{name}")
        return 0
    for n in numbers(args):
        job = load(n)
        if job is not None and job["state"] not in ("cancelled", "timeout"):
            print(condor_row(job))
    return 0


def condor_rm(args: list[str]) -> int:
    code = 0
    for n in numbers(args):
        job = load(n)
        if job is None:
            print(f"Job {n}.0 not found", file=sys.stderr)
            code = 1
        else:
            end(job)
            print(f"Job {n}.0 marked for removal")
    return code


def condor_history(args: list[str]) -> int:
    for n in numbers(args[: args.index("-limit")]):
        job = load(n, "history")
        if job is not None:
            print(condor_row(job))
    return 0


# ------------------------------------------------------------------------------------------------------------- Flux


def flux_batch(args: list[str]) -> int:
    lines = directives(Path(args[-1]).read_text(), "# flux:")
    options = {
        "name": value(lines, "--job-name=(.*)"),
        "out": value(lines, "--output=(.*)").replace("{{", "{").replace("}}", "}"),
        "err": value(lines, "--error=(.*)").replace("{{", "{").replace("}}", "}"),
        "walltime": seconds(value(lines, "--time-limit=(.*)")),
    }
    print(f"f{make('flux', args[-1], options)}")
    return 0


def flux_jobs(args: list[str]) -> int:
    named = [a.partition("=")[2] for a in args if a.startswith("--name=")]
    if named:
        for job in all_jobs():
            if job["name"] == named[0]:
                print(f"ƒ{job['n']}|{job['name']}")
        return 0
    words = {"pending": "SCHED||", "running": "RUN||"}
    results = {"completed": "COMPLETED", "cancelled": "CANCELED", "timeout": "TIMEOUT", "failed": "FAILED"}
    code = 0
    for n in numbers(args):
        job = load(n)
        if job is None:
            print(f"flux-jobs: ERROR: JobID f{n} unknown", file=sys.stderr)
            code = 1
            continue
        done = f"INACTIVE|{results.get(job['state'])}|{shell_code(job) if job['code'] is not None else ''}"
        print(f"ƒ{n}|{words.get(job['state'], done)}|")
    return code


def flux_cancel(args: list[str]) -> int:
    code = 0
    for n in numbers(args):
        job = load(n)
        if job is None:
            print(f"flux-cancel: ERROR: {n}: unknown job", file=sys.stderr)
            code = 1
        else:
            end(job)
    return code


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
