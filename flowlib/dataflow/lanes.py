"""The executors of a run: which of them a task may use, and which one gets it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.refusals import joint
from flowlib.errors import ConfigurationError, InvalidResourceSpecification

if TYPE_CHECKING:
    from flowlib.executors.base import FlowlibExecutor

INTERNAL = "_flowlib_internal"
"""Label of the executor of join apps' bodies."""


class Lane:
    """An executor in a run.

    Attributes:
        label: Its label.
        executor: The executor.
        index: Its number in events.
        outstanding: Tasks that it has; counted where there is a choice.
    """

    __slots__ = ("executor", "index", "label", "outstanding")

    label: str

    def __init__(self, executor: FlowlibExecutor, index: int) -> None:
        self.label = executor.label
        self.executor = executor
        self.index = index
        self.outstanding = 0


class Preferred(tuple[Lane, ...]):
    """Executors that somebody has named one after the other: the first that can is to run the task."""

    __slots__ = ()


def pick(lanes: tuple[Lane, ...]) -> Lane:
    """The executor that gets a task: of preferred ones the first that works, otherwise the one with the least to do."""
    if type(lanes) is Preferred:
        return next((lane for lane in lanes if lane.executor.usable), lanes[0])
    return min(lanes, key=_outstanding)


def _outstanding(lane: Lane) -> int:
    return lane.outstanding


class Lanes:
    """All executors of a run, by label."""

    def __init__(self) -> None:
        self.by_label: dict[str, Lane] = {}
        self._chosen: dict[Any, tuple[Lane, ...]] = {}

    def add(self, executor: FlowlibExecutor) -> Lane:
        """Take an executor.

        Raises:
            ConfigurationError: Its label is taken.
        """
        if executor.label in self.by_label:
            raise ConfigurationError(
                f"two executors have the label {executor.label!r}: give each its own, "
                f"{type(executor).__name__}(label=...)"
            )
        lane = Lane(executor, len(self.by_label))
        self.by_label[executor.label] = lane
        self._chosen = {}
        return lane

    def users(self) -> tuple[Lane, ...]:
        """Those that apps may name."""
        return tuple(lane for label, lane in self.by_label.items() if label != INTERNAL)

    def choose(self, wanted: str | Iterable[str] | None) -> tuple[Lane, ...]:
        """The executors that an app's ``executors`` option means for a task that asks for no resources.

        Executors that run no such tasks are left out, unless there are no others.

        Args:
            wanted: "all" or None, a label, or labels.

        Raises:
            ValueError: There is no executor of that name; the text gives the nearest.
        """
        key = wanted if wanted is None or isinstance(wanted, str) else tuple(wanted)
        lanes = self._chosen.get(key)
        if lanes is None:
            every = self.choose_any(key)
            plain = type(every)(lane for lane in every if not lane.executor.wants_resources)
            lanes = self._chosen[key] = plain or every
        return lanes

    def choose_any(self, wanted: str | Iterable[str] | None) -> tuple[Lane, ...]:
        """The same for a task that asks for resources."""
        return self._find(wanted if wanted is None or isinstance(wanted, str) else tuple(wanted))

    def _find(self, wanted: str | tuple[str, ...] | None) -> tuple[Lane, ...]:
        if wanted is None or wanted in ("all", ("all",)):
            return self.users()
        labels = (wanted,) if isinstance(wanted, str) else wanted
        if not labels:
            raise ValueError("executors is empty: give labels of executors, or 'all'")
        for label in labels:
            if label not in self.by_label:
                from flowlib.suggest import nearest

                valid = [lane.label for lane in self.users()]
                raise ValueError(f"no executor of this run is labelled {label!r}{nearest(str(label), valid)}")
        return Preferred(self.by_label[label] for label in dict.fromkeys(labels))


def suitable(lanes: tuple[Lane, ...], specification: dict[str, Any]) -> tuple[Lane, ...]:
    """The executors that can honour a resource specification.

    Raises:
        InvalidResourceSpecification: None of them; the text tells what each of them lacks.
    """
    return _those(lanes, lambda lane: lane.executor.validate_resources(specification))


def in_time(lanes: tuple[Lane, ...], walltime: float) -> tuple[Lane, ...]:
    """The executors that have the seconds for a task that it has declared.

    Raises:
        InvalidResourceSpecification: None of them; the text tells what each of them lacks.
    """
    return _those(lanes, lambda lane: lane.executor.validate_walltime(walltime))


def _those(lanes: tuple[Lane, ...], check: Callable[[Lane], None]) -> tuple[Lane, ...]:
    able: list[Lane] = []
    refusals: list[InvalidResourceSpecification] = []
    for lane in lanes:
        try:
            check(lane)
        except InvalidResourceSpecification as e:
            refusals.append(e)
        else:
            able.append(lane)
    if refusals and not able:
        raise refusals[0] if len(refusals) == 1 else joint(refusals)
    return type(lanes)(able) if refusals else lanes
