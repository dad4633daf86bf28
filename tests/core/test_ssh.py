"""The pure parts of SSH: host specifications and routes, the roster, verdicts, the reading of answers."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowlib.errors import ConfigurationError, HostUnusable
from flowlib.providers import SSHProvider
from flowlib.ssh import scripts
from flowlib.ssh.problems import explain
from flowlib.ssh.roster import Roster
from flowlib.ssh.targets import Login, Spec, Target, parse, route


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("node1", Spec("node1")),
        ("ann@node1", Spec("node1", "ann")),
        ("ann@node1:2222", Spec("node1", "ann", 2222)),
        ("ssh://ann@node1:2222/", Spec("node1", "ann", 2222)),
        ("10.0.0.1:22", Spec("10.0.0.1", None, 22)),
        ("::1", Spec("::1")),
        ("ann@[fe80::1%eth0]:22", Spec("fe80::1%eth0", "ann", 22)),
    ],
)
def test_parse(text: str, spec: Spec) -> None:
    """Hosts are read as people write them."""
    assert parse(text) == spec


@pytest.mark.parametrize(
    "text", ["", "a b", "@host", "user@", "host:", "host:0", "host:70000", "host:ssh", "-oX", 7, None]
)
def test_parse_refuses(text: object) -> None:
    """What is no host is refused, with what would be one."""
    with pytest.raises(ConfigurationError, match="user@host"):
        parse(text)


def lookup(config: Mapping[str, Mapping[str, Any]]) -> Any:
    """An ssh_config."""
    return lambda host: {"hostname": host, **config.get("*", {}), **config.get(host, {})}


def names(route_: tuple[Target, ...]) -> list[str]:
    """A route in short."""
    return [f"{t.user}@{t.host}:{t.port}" for t in route_]


def test_route_by_config() -> None:
    """Alias, account, port, keys and jump hosts come from the configuration; jump hosts have their own way."""
    config = lookup(
        {
            "*": {"user": "ann", "identityfile": ["~/.ssh/lab"], "identitiesonly": "yes"},
            "n7": {"hostname": "n7.lab", "port": "2222", "proxyjump": "gate,bob@inner:99"},
            "gate": {"hostname": "gate.example.org", "proxyjump": "door"},
        }
    )
    found = route("n7", Login(), config)
    assert names(found) == ["ann@door:22", "ann@gate.example.org:22", "bob@inner:99", "ann@n7.lab:2222"]
    assert found[-1].key_files == ("~/.ssh/lab",)
    assert not found[-1].default_keys
    assert found[-1].key_name == "[n7.lab]:2222"
    assert found[-1].known_hosts == ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")


def test_route_by_settings() -> None:
    """What the provider was given wins over the configuration, the host's own text over both."""
    config = lookup({"*": {"user": "ann", "proxyjump": "gate", "stricthostkeychecking": "accept-new"}})
    login = Login(user="eve", key_filename=("k",), jump="x:1", known_hosts=("kh",))
    found = route("bob@n7", login, config)
    assert names(found) == ["ann@gate:22", "ann@x:1", "bob@n7:22"]
    assert names(route("n7", login, config))[-1] == "eve@n7:22"
    assert names(route("n7", Login(jump="none"), config)) == ["ann@n7:22"]
    assert found[-1].key_files == ("k",)
    assert found[-1].known_hosts == ("kh",)
    assert found[-1].accept_new


def test_route_in_a_circle() -> None:
    """Two hosts that jump through each other are found out; a pattern that catches the jump host itself is harmless."""
    both = lookup({"a": {"proxyjump": "b"}, "b": {"proxyjump": "a"}})
    with pytest.raises(ConfigurationError, match="in a circle: a through b through a"):
        route("a", Login(), both)
    everyone = lookup({"*": {"proxyjump": "gate"}})
    assert names(route("n7", Login(), everyone)) == ["@gate:22", "@n7:22"]


@pytest.mark.parametrize(
    ("error", "kind", "passing"),
    [
        (socket.gaierror(-2, "Name or service not known"), "name", True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "unreachable", True),
        (TimeoutError(), "unreachable", True),
        (OSError(errno.EHOSTUNREACH, "no route"), "unreachable", True),
        (EOFError(), "protocol", True),
        (RuntimeError("?"), "protocol", True),
    ],
)
def test_explain(error: BaseException, kind: str, passing: bool) -> None:
    """Errors are told in words, with their kind and whether they may pass; those of a jump host name it."""
    target = Target("gate", "gate.lab")
    found = explain(error, target, "n7")
    assert (found.kind, found.retryable) == (kind, passing)
    assert str(found).startswith("n7: jump host gate: ")
    assert found.remedy
    assert explain(found, target, "n7") is found


def test_answers() -> None:
    """Answers are found among whatever else a host prints."""
    output = b"Welcome to n7\n\xff\nFLOWLIB-SSH host=n7 \nlast login FLOWLIB-SSH x=a=b\nFLOWLIB-SSH nonsense\n"
    assert scripts.answers(output) == {"host": "n7", "x": "a=b"}


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ({}, "shell"),
        ({"refused": "Read-only file system"}, "files"),
        ({"bash": ""}, "shell"),
        ({"bash": "/bin/bash", "free": "100"}, "disk"),
        ({"bash": "/bin/bash", "free": "9999999"}, "shell"),
    ],
)
def test_judge_place(found: dict[str, str], kind: str) -> None:
    """What is wrong with a host's shell or disk is told."""
    with pytest.raises(HostUnusable) as caught:
        scripts.judge_place("n7", found, None)
    assert caught.value.kind == kind


def test_scripts_are_bash() -> None:
    """Every script is one that bash can read, whatever the names in it."""
    odd = """/a b/c'd"e$f`g"""
    for script in (
        scripts.prepare(odd, "x", odd),
        scripts.probe(["module load python"], [odd, "python3"], odd, odd, "3.11"),
        scripts.start(odd, {"A": odd}),
        scripts.look(odd, 1),
        scripts.watch(odd, 1),
        scripts.end(odd, 1),
        scripts.remove(odd),
        scripts.end_session(1),
        scripts.GUARD,
    ):
        subprocess.run(["bash", "-n"], input=script, check=True, timeout=10)


def test_parts() -> None:
    """Files come back whole among whatever else a host prints, whatever is in them."""
    output = (
        b"hello\nFLOWLIB-SSH file=5 out\n\x00FLO\nFLOWLIB-SSH file=0 err\nFLOWLIB-SSH file=3 logs/m/manager.log\nabc"
    )
    assert scripts.parts(output) == {"out": b"\x00FLO\n", "err": b"", "logs/m/manager.log": b"abc"}
    assert scripts.parts(b"FLOWLIB-SSH file=x y\n") == {}


def test_candidates() -> None:
    """The driver's Python is tried first where nothing else was said."""
    assert scripts.candidates("/opt/p", "", "/usr/bin/python3", "3.11") == ["/opt/p"]
    assert scripts.candidates(None, "", "/v/bin/python", "3.11") == ["/v/bin/python", "python3", "python3.11", "python"]
    assert scripts.candidates(None, "conda activate x", "/v/bin/python", "3.11")[0] == "python3"


class RosterWalk(RuleBasedStateMachine):
    """Random lives of hosts and places."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster[int](["a", "b", "c"])
        self.now = 0.0
        self.made = 0
        self.placed: dict[int, str] = {}
        self.waiting: set[int] = set()
        self.aside: dict[str, float | None] = {}

    @rule()
    def add(self) -> None:
        self.roster.add(self.made)
        self.waiting.add(self.made)
        self.made += 1

    @rule()
    def assign(self) -> None:
        for place, host in self.roster.assign(self.now):
            assert place in self.waiting
            assert host not in self.placed.values()
            until = self.aside.get(host, 0.0)
            assert until is not None
            assert until <= self.now
            self.waiting.remove(place)
            self.placed[place] = host
        free = {"a", "b", "c"} - set(self.placed.values())
        fit = [h for h in free if h not in self.aside or ((u := self.aside[h]) is not None and u <= self.now)]
        assert not (fit and self.waiting)
        assert set(self.roster.stranded(self.now)) == (set() if fit or self.placed_on_tried() else self.waiting)

    def placed_on_tried(self) -> bool:
        return bool(self.placed)

    @precondition(lambda self: self.placed)
    @rule(data=st.data(), seconds=st.one_of(st.none(), st.floats(1, 100)))
    def set_aside(self, data: st.DataObject, seconds: float | None) -> None:
        place = data.draw(st.sampled_from(sorted(self.placed)))
        host = self.placed.pop(place)
        self.aside[host] = None if seconds is None else self.now + seconds
        self.roster.set_aside(host, "broken", self.aside[host])
        self.waiting.add(place)
        assert self.roster.waiting()[0] == place

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def works(self, data: st.DataObject) -> None:
        host = self.placed[data.draw(st.sampled_from(sorted(self.placed)))]
        self.aside.pop(host, None)
        self.roster.usable(host)

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, self.made - 1))
        self.roster.leave(place)
        self.placed.pop(place, None)
        self.waiting.discard(place)

    @rule(seconds=st.floats(0, 50))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def sound(self) -> None:
        self.roster.check_invariants()
        assert set(self.roster.waiting()) == self.waiting
        assert set(self.roster.problems()) == set(self.aside)


TestRoster = RosterWalk.TestCase
TestRoster.settings = settings(max_examples=30, stateful_step_count=30)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"hosts": []}, "give a list of hosts"),
        ({"hosts": "node1"}, "give a list of hosts"),
        ({"hosts": ["a", "a"]}, "a stands twice"),
        ({"hosts": ["a b"]}, "names no SSH host"),
        ({"hosts": ["a"], "jump": "b c"}, "names no SSH host"),
        ({"hosts": ["a"], "nodes_per_block": 2}, "needs 2 hosts, but there are 1"),
        ({"hosts": ["a", "b"], "max_blocks": 3}, "needs 3 hosts, but there are 2"),
        ({"hosts": ["a"], "connect_timeout": 0}, "above 0"),
        ({"hosts": ["a"], "worker_init": None}, "give text"),
        ({"hosts": ["a"], "python": ["python3"]}, "give text"),
        ({"hosts": ["a"], "parallelism": 2}, "from 0 to 1"),
    ],
)
def test_provider_refuses(given: dict[str, Any], expected: str) -> None:
    """Settings that make no sense are refused by the constructor."""
    with pytest.raises(ConfigurationError, match=expected):
        SSHProvider(**given)


def test_provider_defaults() -> None:
    """All hosts are used; the script shows what will run there."""
    provider = SSHProvider(["a", "b", "c"], nodes_per_block=2, workdir="~/my work", worker_init="module load python")
    assert (provider.init_blocks, provider.max_blocks) == (1, 1)
    script = provider.render_script("manager", 1, "job")
    assert 'cd "$HOME/my work"\n' in script
    assert "\nmodule load python\n" in script
    assert script.endswith("\nmanager\n")
    assert repr(provider).startswith("SSHProvider(hosts=['a', 'b', 'c'], ")
