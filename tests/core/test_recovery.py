"""What is known after an interchange was replaced."""

from __future__ import annotations

from flowlib.executors.high_throughput.messages import ManagerChanged
from flowlib.executors.high_throughput.recovery import PATIENCE, Recovery


def _change(manager: str, change: str = "registered") -> ManagerChanged:
    return ManagerChanged(manager, change, "0", "host", 1)


def test_waits_for_the_managers_that_were_there() -> None:
    """Those that left before are not waited for; it is over as soon as all are back."""
    recovery = Recovery()
    for name in "abc":
        recovery.changed(_change(name))
    recovery.changed(_change("b", "lost"))
    assert not recovery.due(1e9)
    recovery.begin({(1, 0)}, 100.0)
    assert not recovery.due(100.0 + PATIENCE - 0.1)
    recovery.changed(_change("a"))
    recovery.changed(_change("new"))
    assert not recovery.due(101.0)
    recovery.changed(_change("c"))
    assert recovery.due(101.0)
    assert recovery.end() == []
    assert not recovery.due(1e9)


def test_goes_on_without_those_that_stay_away() -> None:
    """They are lost, and what they had is launched again; what turns up elsewhere is not."""
    recovery = Recovery()
    recovery.changed(_change("a"))
    recovery.begin({(1, 0), (2, 1), (3, 0)}, 0.0)
    assert recovery.due(PATIENCE)
    (change,) = recovery.end()
    assert (change.manager, change.change) == ("a", "lost") and "did not come back" in change.reason
    assert recovery.lost([[2, 1], [9, 9]]) == {(1, 0), (3, 0)}
    assert recovery.lost([]) == set()


def test_replaced_twice() -> None:
    """What was unsure stays so, and managers that were not back yet are still waited for."""
    recovery = Recovery()
    recovery.changed(_change("a"))
    recovery.changed(_change("b"))
    recovery.begin({(1, 0)}, 0.0)
    recovery.changed(_change("a"))
    recovery.begin({(2, 0)}, 1.0)
    recovery.changed(_change("b"))
    assert not recovery.due(2.0)
    recovery.changed(_change("a"))
    assert recovery.due(2.0)
    recovery.end()
    assert recovery.lost([]) == {(1, 0), (2, 0)}
