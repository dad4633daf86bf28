r"""What is run on a host, and how its answers are read: pure text.

A block's place on a host is a directory of its own (0700).  Beside the executor's private files it holds::

    probe.sh    which Python there could run a manager
    job.sh      what the user sees as the block's script: worker_init, then the launcher's command
    guard.sh    leader of the process group: runs job.sh, writes its exit code to `ec`, removes keys, ends the rest
    out, err    of job.sh
    pid, ec     of the guard, and its exit code once it has ended

Scripts of ours go to the shell's standard input, so that nothing stands on a command line; their answers are lines that
begin with a mark, since a host's start-up files may print anything.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from flowlib.ssh.problems import Problem, problem

SHELL = "exec sh -s"
"""Runs a script from standard input whatever the account's shell is."""
BASH = "exec bash --noprofile --norc -s"
LOGIN = "exec bash --login"
"""For the user's own text: with the profile, so that ``module`` and ``conda`` are there."""
MARK = "FLOWLIB-SSH "
KEEP_DAYS = 7
"""Days that a directory stays whose driver did not come back for it."""
FORGOTTEN_DAYS = 60
"""The same for one whose block did not end in order, or still runs."""
LEAST_KB = 20 * 1024
"""Less free space than that is a full disk."""
SECRET = ("block.json", "manager.sh")
"""Files that are removed when the block ends, also without the driver."""

_SAY = f"""say() {{ printf '{MARK}%s=%s\\n' "$1" "$(printf '%s' "$2" | tr '\\n' ' ')"; }}"""

SESSION = f"""{_SAY}
say session "$PPID"
""".encode()
"""Answers ``session``, the SSH server's process for this connection."""


FIND_PYTHON3 = f"""{_SAY}\nsay python3 "$(bash --login -c 'command -v python3' 2>/dev/null | tail -n 1)"\n""".encode()
"""Answers ``python3``: its path."""


def answers(output: bytes) -> dict[str, str]:
    """The marked lines of an output.

    Example:
        >>> answers(b"Welcome!\\nFLOWLIB-SSH host=n7\\n")
        {'host': 'n7'}
    """
    found: dict[str, str] = {}
    for line in output.decode(errors="replace").splitlines():
        _, mark, rest = line.partition(MARK)
        name, equals, value = rest.partition("=")
        if mark and equals:
            found[name] = value.strip()
    return found


def prepare(base: str | None, name: str, shared: str) -> bytes:
    """Makes a block's directory; answers ``directory``, ``shared`` and more, see ``judge_place``.

    Args:
        base: Directory for these directories; None for one in the account's cache.
        name: The directory's name; nobody guesses it.
        shared: A file that is there if the host shares the driver's file system; "" if that cannot be told.
    """
    where = '"${XDG_CACHE_HOME:-${HOME:?}/.cache}/flowlib/ssh"' if base is None else _path(base)
    return f"""umask 077
{_SAY}
say system "$(uname -s)"
say host "$(hostname 2>/dev/null || uname -n)"
say bash "$(command -v bash)"
base={where}
directory="$base/{name}"
if ! error=$(mkdir -p "$directory" 2>&1); then say refused "$error"; exit 0; fi
if ! error=$( (echo . >"$directory/try") 2>&1); then say refused "$error"; rm -rf "$directory"; exit 0; fi
rm -f "$directory/try"
chmod 700 "$directory"
say directory "$(cd "$directory" && pwd)"
say free "$(df -Pk "$directory" 2>/dev/null | awk 'END {{ print $4 }}')"
if [ -n {_word(shared)} ] && [ -e {_word(shared)} ]; then say shared yes; else say shared no; fi
for old in "$base"/flowlib-*/; do
    days={FORGOTTEN_DAYS}
    if [ -e "$old/ec" ]; then days={KEEP_DAYS}; fi
    if [ -n "$(find "$old" -prune -mtime +$days 2>/dev/null)" ]; then rm -rf "$old"; fi
done
say ready yes
""".encode()


def judge_place(host: str, found: Mapping[str, str], base: str | None) -> None:
    """Whether the answers to ``prepare`` are those of a host that can be used.

    Raises:
        HostUnusable: It cannot.
    """
    place = "~/.cache/flowlib/ssh" if base is None else base
    if not found:
        what = "the account's shell runs no commands (it answered nothing that was asked)"
        raise problem(host, Problem.SHELL, what, f"check that this works: ssh {host} 'exec sh -c \"echo ok\"'")
    if "refused" in found:
        what = f"no directory can be made in {place}: {found['refused']}"
        raise problem(host, Problem.FILES, what, "make room or permit it, or give private_dir= another place")
    if not found.get("bash"):
        raise problem(host, Problem.SHELL, "it has no bash", "install bash there: scripts and launchers need it")
    free = found.get("free", "")
    if free.isdecimal() and int(free) < LEAST_KB:
        what = f"the disk of {place} has {int(free) // 1024} MB left"
        raise problem(host, Problem.DISK, what, "make room there, or give private_dir= another place")
    if "ready" not in found or "directory" not in found:
        what = f"its shell broke off while {place} was prepared"
        raise problem(host, Problem.SHELL, what, "its start-up files may end the shell; try: ssh HOST sh -c true")


# --------------------------------------------------------------------------------------------------------- the probe

_PROBE = f'''\
import sys
print("{MARK}version=%d.%d.%d" % sys.version_info[:3])
print("{MARK}executable=" + (sys.executable or ""))
if sys.version_info >= (3, 10):
    try:
        import msgspec, psutil, zmq
        from flowlib.version import VERSION
        from flowlib.executors.high_throughput.messages import PROTOCOL
    except ImportError as e:
        print("{MARK}missing=%s" % e)
    else:
        print("{MARK}flowlib=%s" % VERSION)
        print("{MARK}protocol=%s" % PROTOCOL)
'''


def candidates(python: str | None, worker_init: str, ours: str, version: str) -> list[str]:
    """The Pythons to try on a host, in order: shell words.

    Args:
        python: What the user said; then it is this one or none.
        worker_init: If there is one, the ``python3`` that it puts on the PATH is meant.
        ours: The driver's own, for hosts that share its file system.
        version: The driver's version, major and minor.
    """
    if python:
        return [python]
    on_path = ["python3", f"python{version}", "python"]
    return on_path if worker_init.strip() or not ours else [ours, *on_path]


def probe(worker_init: Sequence[str], pythons: Sequence[str], root: str, workdir: str, version: str) -> bytes:
    """The script that finds a Python; it answers for the first with the right version and flowlib, or the best.

    Args:
        worker_init: Its lines.
        pythons: See ``candidates``.
        root: Directory with the driver's flowlib, "" if that is installed; used if the host has it.
        workdir: Where blocks work, as a shell word; "" for where the probe is.
        version: The version that is needed, major and minor.
    """
    words = " ".join(_path(python) for python in pythons)
    lines = [
        "#!/usr/bin/env bash",
        *work_in(workdir),
        *worker_init,
        _SAY,
        f"root={_word(root)}",
        'if [ -n "$root" ] && [ -d "$root" ]; then export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"; fi',
        "best= broken=",
        f"for python in {words}; do",
        '    if ! command -v "$python" >/dev/null 2>&1; then continue; fi',
        f"    if ! found=$(\"$python\" - 2>&1 <<'END'\n{_PROBE}END\n); then",
        '        if [ -z "$best" ]; then broken="$python: $found"; fi',
        "        continue",
        "    fi",
        f"    case $found in *'{MARK}version={version}.'*'{MARK}flowlib='*) best=$found; break ;; esac",
        f"    case $best in *'{MARK}version={version}.'*) ;; *) best=$found ;; esac",
        "done",
        'printf "%s\\n" "$best"',
        'if [ -n "$broken" ]; then say broken "$broken"; fi',
        f"say tried {_word(', '.join(pythons))}",
    ]
    return "\n".join(lines).encode() + b"\n"


def judge_python(
    host: str, found: Mapping[str, str], *, version: str, protocol: int, release: str, error: str = ""
) -> None:
    """Whether the answers to a probe are those of a Python that can run managers.

    Args:
        host: The host.
        found: The answers.
        version: The Python version of the driver, major and minor.
        protocol: The driver's protocol.
        release: The driver's version of flowlib.
        error: What the probe printed as errors.

    Raises:
        HostUnusable: It is not.
    """
    said = f" (it printed: {error.strip().splitlines()[-1][:200]})" if error.strip() else ""
    if "tried" not in found:
        what = f"worker_init ended the shell{said}"
        raise problem(host, Problem.SHELL, what, "try its lines by hand there, in: bash --login")
    if "workdir" in found:
        raise problem(
            host, Problem.FILES, f"workdir cannot be used: {found['workdir']}", "make it there, or give another"
        )
    hint = "install it, or name one by python=, or load one in worker_init"
    if "version" not in found:
        what = f"there is no Python (tried {found['tried']})"
        if found.get("broken"):
            what = f"its Python does not work: {found['broken'][:300]}"
        raise problem(host, Problem.PYTHON, what, f"{hint}; Python {version} is needed")
    there = found["version"]
    python = found.get("executable") or "its Python"
    if there.split(".")[:2] != version.split("."):
        what = f"its {python} is Python {there}, here runs {version}"
        raise problem(host, Problem.PYTHON, what, f"the first two numbers must agree: {hint}")
    pip = f"install it there: {python} -m pip install flowlib=={release}"
    if "flowlib" not in found:
        raise problem(host, Problem.FLOWLIB, f"{python} cannot import flowlib ({found.get('missing', '?')})", pip)
    if found.get("protocol") != str(protocol):
        what = f"flowlib {found['flowlib']} there and {release} here do not understand each other"
        raise problem(host, Problem.FLOWLIB, what, pip)


# --------------------------------------------------------------------------------------------------------- the block


def work_in(workdir: str) -> list[str]:
    """Lines that go to the working directory, and make it if it is not there; [] for staying."""
    if not workdir:
        return []
    path = _path(workdir)
    return [
        f"if ! flowlib_error=$( (mkdir -p {path} && cd {path}) 2>&1); then",
        f"    printf '{MARK}workdir=%s\\n' \"$flowlib_error\"",
        f"    printf '{MARK}tried=\\n'",
        "    exit 1",
        "fi",
        f"cd {path}",
    ]


GUARD = f"""\
trap : TERM INT HUP
cd "$FLOWLIB_BLOCK_DIR" || exit 1
echo $$ >pid
bash --login job.sh >out 2>err </dev/null
code=$?
rm -f {" ".join(SECRET)} probe.sh
echo $code >ec.new && mv ec.new ec
trap '' TERM
kill -TERM -- -$$
exit $code
""".encode()


def start(directory: str, environment: Mapping[str, str]) -> bytes:
    """Starts the guard in a session of its own and stays until it ends; answers ``pid`` and, at the end, ``code``.

    Args:
        directory: The block's.
        environment: For the block; nothing secret.
    """
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    return f"""{_SAY}
cd {shlex.quote(directory)} || exit 1
export FLOWLIB_BLOCK_DIR={shlex.quote(directory)}
{exports}if command -v setsid >/dev/null 2>&1; then
    setsid bash --noprofile --norc {shlex.quote(directory)}/guard.sh </dev/null >/dev/null 2>&1 &
else
    perl -e 'use POSIX; POSIX::setsid(); exec @ARGV' bash --noprofile --norc {shlex.quote(directory)}/guard.sh \\
        </dev/null >/dev/null 2>&1 &
fi
say pid $!
wait $!
say code $?
""".encode()


_LIVES = """\
lives() {
    case "$(ps -o args= -p "$pid" 2>/dev/null)" in *"$directory"*) return 0 ;; esac
    return 1
}
"""


def look(directory: str, pid: int) -> bytes:
    """Answers ``alive`` and ``code`` of a block that was started earlier."""
    return f"""{_SAY}
directory={shlex.quote(directory)} pid={pid}
{_LIVES}if lives; then say alive yes; else say alive no; fi
if [ -e "$directory/ec" ]; then say code "$(cat "$directory/ec")"; fi
""".encode()


def watch(directory: str, pid: int) -> bytes:
    """Stays until a block ends that was started by another connection; answers ``code``."""
    return f"""{_SAY}
directory={shlex.quote(directory)} pid={pid}
while kill -0 $pid 2>/dev/null; do sleep 1; done
say code "$(cat "$directory/ec" 2>/dev/null)"
""".encode()


def end(directory: str, pid: int) -> bytes:
    """Ends a block with its process group: SIGTERM, after two seconds SIGKILL; then removes its secrets."""
    return f"""{_SAY}
directory={shlex.quote(directory)} pid={pid}
{_LIVES}if lives || [ ! -e "$directory/ec" ]; then
    # It may have been started a moment ago, and have no group of its own yet.
    tell() {{ kill -$1 -- -$pid 2>/dev/null; if lives; then kill -$1 $pid 2>/dev/null; fi; }}
    tell TERM
    for ((i = 0; i < 40; i++)); do
        kill -0 -- -$pid 2>/dev/null || lives || break
        if ((i == 5)); then tell TERM; fi
        sleep 0.05
    done
    tell KILL
fi
cd "$directory" 2>/dev/null && rm -f {" ".join(SECRET)}
say ended yes
""".encode()


def collect(directory: str, most: int) -> bytes:
    """Answers with the ends of a block's output and of its managers' logs; see ``parts``.

    Args:
        directory: The block's.
        most: Bytes of each file.
    """
    return f"""cd {shlex.quote(directory)} || exit 1
shopt -s nullglob
for file in out err logs/*/manager.log; do
    if [ ! -f "$file" ]; then continue; fi
    size=$(wc -c <"$file")
    if ((size > {most})); then size={most}; fi
    printf '{MARK}file=%d %s\\n' $size "$file"
    tail -c $size "$file"
done
""".encode()


def parts(output: bytes) -> dict[str, bytes]:
    """What ``collect`` has answered: contents by name, relative to the block's directory.

    Example:
        >>> parts(b"Welcome!\\nFLOWLIB-SSH file=3 out\\none")
        {'out': b'one'}
    """
    found: dict[str, bytes] = {}
    header = f"{MARK}file=".encode()
    while (at := output.find(header)) >= 0:
        line, _, output = output[at + len(header) :].partition(b"\n")
        size, _, name = line.decode(errors="replace").partition(" ")
        if not size.isdecimal():
            continue
        found[name], output = output[: int(size)], output[int(size) :]
    return found


def make(directory: str) -> bytes:
    """Makes a directory, private if it is new."""
    return f"umask 077; mkdir -p {shlex.quote(directory)}\n".encode()


def remove(directory: str) -> bytes:
    """Removes a block's directory."""
    return f"cd / && rm -rf {shlex.quote(directory)}\n".encode()


def end_session(pid: int) -> bytes:
    """Ends the SSH server's process of an earlier connection, which may still hold the tunnel's port."""
    return f"""case "$(ps -o comm= -p {pid} 2>/dev/null)" in *sshd*) kill {pid} ;; esac
""".encode()


def _word(text: str) -> str:
    return shlex.quote(text)


def _path(path: str) -> str:
    """A path as a shell word; a leading ``~/`` and variables of the host are left for its shell to fill in."""
    if path == "~" or path.startswith("~/"):
        path = "$HOME" + path[1:]
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`").replace("$(", "\\$(")
    return f'"{escaped}"'
