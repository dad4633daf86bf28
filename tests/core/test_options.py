"""Options of tasks: checked where they are written, combined in one order."""

from __future__ import annotations

import contextvars
import pickle
import threading
from typing import Any

import pytest

from flowlib.options import JOIN_NAMES, NAMES, PLAIN, TaskOptions, block, changed, check, combine, defaults


def test_values_in_final_form() -> None:
    """Each option comes out as the kernel wants it."""
    given: dict[str, Any] = {
        "executors": ["a", "b"],
        "cache": True,
        "ignore_for_cache": ["x"],
        "resources": {"cores": 4, "memory": "8GB", "licence": "matlab"},
        "priority": 2,
        "retries": 3,
        "lost_retries": 0,
        "walltime": "1:30:00",
        "version": "v2",
    }
    options = combine(check("here", given))
    assert options == TaskOptions(
        executors=("a", "b"),
        cache=True,
        ignore_for_cache=("x",),
        resources={"cores": 4, "memory": 8 * 10**9, "licence": "matlab"},
        priority=2,
        retries=3,
        lost_retries=0,
        walltime=5400.0,
        version="v2",
    )


@pytest.mark.parametrize("value", ["all", ["all"], ["a", "all"]])
def test_all_executors(value: Any) -> None:
    """The word "all" stands alone, however it is given."""
    assert check("here", {"executors": value}) == {"executors": "all"}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("executors", 5, TypeError),
        ("executors", [5], TypeError),
        ("executors", [], ValueError),
        ("cache", 1, TypeError),
        ("ignore_for_cache", "x", TypeError),
        ("ignore_for_cache", [1], TypeError),
        ("resources", ["cores"], TypeError),
        ("resources", {1: 2}, TypeError),
        ("resources", {"memory": "8QB"}, ValueError),
        ("resources", {"cores": -1}, ValueError),
        ("resources", {"cores": float("nan")}, ValueError),
        ("resources", {"cores": [1]}, TypeError),
        ("priority", "high", TypeError),
        ("priority", float("nan"), TypeError),
        ("retries", -1, ValueError),
        ("retries", 1.5, TypeError),
        ("retries", True, TypeError),
        ("lost_retries", "2", TypeError),
        ("walltime", "soon", ValueError),
        ("walltime", 0, ValueError),
        ("version", 1.5, TypeError),
    ],
)
def test_bad_values(name: str, value: Any, error: type[Exception]) -> None:
    """A bad value is refused with the option's name and the place."""
    with pytest.raises(error, match=f"here: {name}"):
        check("here", {name: value})


def test_unknown_option() -> None:
    """An unknown option is refused with the nearest name and all there are."""
    with pytest.raises(TypeError, match="did you mean 'retries'") as caught:
        check("python_app", {"retires": 1})
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(JOIN_NAMES)))
def test_options_of_other_apps(name: str) -> None:
    """What cannot mean anything for a join app is refused with the reason."""
    with pytest.raises(TypeError, match="join app"):
        check("join_app", {name: None}, JOIN_NAMES)


def test_two_priorities() -> None:
    """Priorities in both senses at once are refused."""
    with pytest.raises(TypeError, match="priority twice"):
        check("here", {"priority": 1, "resources": {"priority": 1}})


def test_later_layers_win() -> None:
    """Options are combined one by one, not wholesale."""
    assert combine({"retries": 1, "cache": True}, {"retries": 2}, {"version": 3}) == TaskOptions(
        retries=2, cache=True, version=3
    )
    assert combine() is PLAIN
    assert changed(TaskOptions(retries=2, cache=True), retries=0) == TaskOptions(retries=0, cache=True)


def test_immutable() -> None:
    """Options that a task was submitted with cannot change under it."""
    with pytest.raises(AttributeError, match="retries"):
        PLAIN.retries = 5
    assert pickle.loads(pickle.dumps(TaskOptions(retries=1))) == TaskOptions(retries=1)
    assert repr(TaskOptions(retries=1, cache=True)) == "TaskOptions(cache=True, retries=1)"


def test_blocks_nest_and_end() -> None:
    """An inner block adds to the outer one; leaving restores, also by an exception."""
    assert block.get() is None
    with defaults(retries=1, cache=True):
        with pytest.raises(KeyError), defaults(retries=2):
            assert block.get() == {"retries": 2, "cache": True}
            raise KeyError
        assert block.get() == {"retries": 1, "cache": True}
    assert block.get() is None


def test_blocks_are_of_one_thread() -> None:
    """Another thread does not see a block unless it runs in a copy of the context."""
    seen: list[Any] = []
    with defaults(retries=1):
        context = contextvars.copy_context()
        for target in (lambda: seen.append(block.get()), lambda: context.run(lambda: seen.append(block.get()))):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join(10)
    assert seen == [None, {"retries": 1}]


def test_bad_block() -> None:
    """A block refuses bad options before it starts."""
    with pytest.raises(TypeError, match=r"flowlib\.defaults"), defaults(retires=1):  # type: ignore[call-arg]
        raise AssertionError
