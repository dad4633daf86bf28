"""Which worker gets which task: the decisions of a manager, without clock, sockets or processes.

A worker runs one task at a time, but short ones are sent ahead in bundles, because a round trip costs more than they
take.  What was sent ahead can be taken back (see ``page``): when a task before it turns out long, when it is
cancelled, or when the manager drains.  Whatever happens, each ``(task, attempt)`` that was added is answered once: by
the result that ``finish`` passes on, by ``take_answers``, or in what ``died`` returns.

A running task is ended with its worker: because it was cancelled so, is over its walltime or over its memory.  What is
behind it is taken back first, and the worker's note of what it has begun is read after that, so that the signal can hit
no other task, however short they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from flowlib.executors.high_throughput.hands import Entry, Queue, State, Worker
from flowlib.executors.high_throughput.manager_orders import (
    Answers,
    Batch,
    Cause,
    Collect,
    Key,
    Kill,
    Look,
    Order,
    Revoke,
    Terminate,
    Weigh,
)
from flowlib.executors.high_throughput.messages import Needs, Result, Status, Task

AHEAD = 0.005
"""Seconds of work that a worker may have in hand."""
MOST_AHEAD = 64
"""Tasks that a worker may have in hand."""
STUCK = 0.020
"""Seconds after which the tasks behind a running one are taken back."""
STUCK_BESIDE_IDLE = 0.005
"""The same while another worker has nothing to do."""
BEGUN_AFTER = 0.010
"""Seconds after which the interchange is told that a task has begun."""
SETTLE = 0.001
"""Seconds between a revocation and looking at what it caught."""
WALLTIME_GRACE = 1.0
"""Seconds after its walltime, when it got an exception, at which a task that has not ended is signalled."""
GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
WEIGH = 0.2
"""Seconds between looks at the memory of tasks that have a limit."""
OVERHEAD = 20e-6
"""Seconds that each task takes beside its own work."""

_OK = int(Status.OK)
_WITHDRAWN = int(Status.WITHDRAWN)
_UNKNOWN = 1e9


class Abandoned(NamedTuple):
    """The tasks of a manager that ends.

    Attributes:
        begun: Those that workers had begun.
        unstarted: The others.
    """

    begun: list[Key]
    unstarted: list[Key]


class ManagerCore:
    """The decisions of one manager.

    Times are seconds of any clock that never goes back.

    Args:
        grace: Seconds between SIGTERM and SIGKILL for a task over its walltime.
        share: Bytes that a task may use which asks for no memory; None for no limit.

    Attributes:
        draining: It takes no more tasks.
        tell_at: When to ask for ``begun``; None for not before something happens.

    Example:
        >>> core = ManagerCore()
        >>> core.add([Task(7, 0, 1, b"")])
        >>> core.ready(0, now=0.0)
        >>> [batch.rank for batch in core.assign(now=0.0)]
        [0]
        >>> [result.task for result in core.finish(0, [Result(7, 0, Status.OK)], now=0.1)]
        [7]
    """

    def __init__(self, grace: float = GRACE, share: int | None = None) -> None:
        self._grace = grace
        self._share = share
        self._weigh_at: float | None = None
        self._entries: dict[Key, Entry] = {}
        self._queue = Queue()
        self._workers: dict[int, Worker] = {}
        # Ranks of open workers with empty hands, but those that are lent; a dict for its order.
        self._idle: dict[int, None] = {}
        # Ranks of workers whose share tasks on other workers have; also of those that are not there at the moment.
        self._lent: set[int] = set()
        self._durations: dict[int, float] = {}
        self._timed: set[int] = set()
        self._revoking: set[int] = set()
        self._orders: list[Order] = []
        self._withdrawn: list[Key] = []
        self._running: list[Key] = []
        self._check_at: float | None = None
        self.draining = False
        self.tell_at: float | None = None

    # ---------------------------------------------------------------------------------------------------------- looking

    def __len__(self) -> int:
        """Tasks that are not answered yet."""
        return len(self._entries)

    def keys(self) -> list[Key]:
        """Those tasks."""
        return list(self._entries)

    def needs(self) -> list[tuple[int, int, Needs]]:
        """What was given to those of them that asked for resources."""
        asking = [(key, entry.task.needs) for key, entry in self._entries.items()]
        return [(*key, needs) for key, needs in asking if needs is not None and needs.resources]

    @property
    def waiting(self) -> int:
        """Tasks that no worker has."""
        return self._queue.count

    def in_hand(self, rank: int) -> list[Key]:
        """The tasks that a worker has, the first one running or about to."""
        worker = self._workers.get(rank)
        return [] if worker is None else [entry.key for entry in worker.hand]

    # ------------------------------------------------------------------------------------------------- the interchange

    def add(self, tasks: Iterable[Task]) -> None:
        """Take tasks in. One that is here already is left as it is; a draining manager gives them back."""
        entries, queue = self._entries, self._queue
        for task in tasks:
            key = (task.task, task.attempt)
            if self.draining:
                if key not in entries:
                    self._withdrawn.append(key)
            elif key not in entries:
                entry = entries[key] = Entry(task, key)
                queue.push(entry)

    def cancel(self, keys: Iterable[Key], now: float, grace: float | None = None) -> None:
        """Take back what has not started. The answers come from ``take_answers``, some of them a moment later.

        Args:
            keys: The tasks.
            now: Time.
            grace: Seconds between SIGTERM and SIGKILL for those that run, which are withdrawn when they are dead; None
                to let them run.
        """
        waiting: list[Entry] = []
        for key in keys:
            entry = self._entries.get(key)
            if entry is None:
                self._running.append(key)
            elif entry.worker is None:
                del self._entries[key]
                waiting.append(entry)
                self._withdrawn.append(key)
            elif entry.ending is not None and entry.ending.cause is Cause.CANCEL:
                # It is answered when it is dead.
                continue
            elif grace is not None:
                entry.cancelled = True
                self._end_running(entry.worker, entry, Terminate(entry.worker.rank, Cause.CANCEL, grace), now)
            elif entry is entry.worker.hand[0] or not self._revoke(entry.worker, entry.number, now):
                self._running.append(key)
            else:
                entry.cancelled = True
        if waiting:
            self._queue.remove(waiting)

    def drain(self, now: float) -> None:
        """Take no more tasks; give back what has not started."""
        self.draining = True
        for entry in self._queue.clear():
            del self._entries[entry.key]
            self._withdrawn.append(entry.key)
        for worker in self._workers.values():
            if len(worker.hand) > 1:
                self._revoke(worker, worker.hand[1].number, now)

    def end_all(self, now: float, grace: float) -> None:
        """End what runs, with SIGTERM and SIGKILL; it takes no more tasks, because the job ends.

        Args:
            now: Time.
            grace: Seconds between the signals.
        """
        assert self.draining
        for worker in self._workers.values():
            if worker.hand and worker.hand[0].ending is None:
                self._end_running(worker, worker.hand[0], Terminate(worker.rank, Cause.END, grace), now)

    def forget_functions(self, functions: Iterable[int]) -> None:
        """These functions are not used any more."""
        for function in functions:
            self._durations.pop(function, None)
            for worker in self._workers.values():
                worker.known.discard(function)

    def begun(self, started: Callable[[int], int], now: float) -> list[Key]:
        """What the interchange is to be told: tasks that have been running for a while, each once.

        Args:
            started: Tells the number of the task that a worker began last.
            now: Time.
        """
        told: list[Key] = []
        more = False
        for rank, worker in self._workers.items():
            first = worker.first
            if first is None or first is worker.told:
                continue
            # What it finished before may still be in its outbox.
            if now >= worker.first_since + BEGUN_AFTER and started(rank) == first.number:
                worker.told = first
                told.append(first.key)
            else:
                more = True
        # Not when the next one is due: workers out of step would have all of them looked at for each.
        self.tell_at = now + BEGUN_AFTER if more else None
        return told

    def tell_again(self, now: float) -> None:
        """There is a new connection: whoever is there may not know what has begun."""
        for worker in self._workers.values():
            worker.told = None
        self.tell_at = now

    def abandon(self, started: Callable[[int], int]) -> Abandoned:
        """Forget every task, because the manager ends; they are the caller's to answer.

        Args:
            started: Tells the number of the task that a worker began last.
        """
        abandoned = Abandoned([], [])
        for key, entry in self._entries.items():
            worker = entry.worker
            began = worker is not None and entry.number <= started(worker.rank)
            (abandoned.begun if began else abandoned.unstarted).append(key)
        self._entries.clear()
        self._queue.clear()
        self._lent.clear()
        for worker in self._workers.values():
            worker.hand.clear()
        return abandoned

    # ---------------------------------------------------------------------------------------------------- the workers

    def ready(self, rank: int, now: float) -> None:
        """A fresh worker can take tasks."""
        assert rank not in self._workers
        self._workers[rank] = Worker(rank)
        if rank not in self._lent:
            self._idle[rank] = None

    def retire(self, rank: int) -> None:
        """A worker begins no further task."""
        worker = self._workers.get(rank)
        if worker is not None and worker.state is not State.ENDING:
            worker.state = State.RETIRING
            self._revoking.discard(rank)
            self._idle.pop(rank, None)

    def died(self, rank: int, started: int) -> list[Task]:
        """A worker is gone, after everything that it sent was given to ``finish``.

        Args:
            rank: The worker.
            started: Number of the task that it began last.

        Returns:
            The task that it was running, in a list, or []. What it had not begun waits again, before all others.
        """
        worker = self._workers.pop(rank, None)
        if worker is None:
            return []
        self._idle.pop(rank, None)
        self._timed.discard(rank)
        self._revoking.discard(rank)
        lost: list[Task] = []
        back: list[Entry] = []
        for entry in worker.hand:
            # Those before it that were not answered were skipped.
            if entry.number == started and entry.ending is not None and entry.ending.cause is Cause.CANCEL:
                del self._entries[entry.key]
                self._return(entry)
                self._withdrawn.append(entry.key)
            elif entry.number == started:
                self._answer(entry)
                lost.append(entry.task)
            else:
                back.append(entry)
        self._take_back(back)
        return lost

    def finish(self, rank: int, results: Iterable[Result], now: float) -> list[Result]:
        """A worker's answers.

        Returns:
            Those to be passed on: each task's first and only one.
        """
        worker = self._workers.get(rank)
        if worker is None:
            return []
        entries, hand = self._entries, worker.hand
        accepted: list[Result] = []
        back: list[Entry] = []
        ending = worker.state is State.ENDING
        for result in results:
            key = (result.task, result.attempt)
            entry = entries.get(key)
            if result.status == _WITHDRAWN:
                if entry is not None and entry.worker is worker:
                    # It came by before it was looked at.
                    if ending and entry.ending is not None:
                        # It was taken for running, and the worker was told to end because of it.
                        self._orders.append(Kill(rank))
                    hand.remove(entry)
                    worker.load -= entry.estimate
                    back.append(entry)
                elif worker.skips:
                    worker.skips -= 1
                continue
            if entry is None or entry.worker is not worker:
                continue
            if ending and entry.ending is not None:
                self._orders.append(Kill(rank))
                if result.status != _OK or entry.ending.cause is Cause.CANCEL:
                    # Whatever the signal made it say: it is answered as what it is when the worker is dead.
                    continue
            accepted.append(result)
            if hand[0] is entry:
                hand.popleft()
            else:
                hand.remove(entry)
            del entries[key]
            if entry.lent:
                self._return(entry)
            if entry.cancelled:
                self._running.append(key)
            self._learn(entry.task.function, result.ended - result.started)
            worker.load = worker.load - entry.estimate if hand else 0.0
        if back:
            self._take_back(back)
        self._after(worker, now)
        return accepted

    def _after(self, worker: Worker, now: float) -> None:
        """Bring a worker's state in line with its hand."""
        hand = worker.hand
        if worker.state is State.SKIPPING and not worker.skips and not (hand and hand[-1].number >= worker.revoked):
            worker.state = State.OPEN
            self._orders.append(Revoke(worker.rank, None))
            if self.draining and len(hand) > 1:
                self._revoke(worker, hand[1].number, now)
        if hand:
            if hand[0] is not worker.first:
                self._new_first(worker, now)
        else:
            worker.first = None
            worker.load = 0.0
            if worker.kill_at is not None:
                worker.kill_at = None
                self._timed.discard(worker.rank)
            if worker.state is State.OPEN and worker.rank not in self._lent:
                self._idle[worker.rank] = None

    def _lend(self, entry: Entry) -> None:
        """Keep as many idle workers idle as a task has shares beyond one; not the one that is to run it, the last."""
        entry.lent = tuple([*self._idle][: entry.slots - 1])
        self._lent.update(entry.lent)
        for rank in entry.lent:
            del self._idle[rank]

    def _return(self, entry: Entry) -> None:
        """Give back the shares of a task that no worker has any more."""
        lent, entry.lent = entry.lent, ()
        self._lent.difference_update(lent)
        for rank in lent:
            worker = self._workers.get(rank)
            if worker is not None and worker.state is State.OPEN and not worker.hand:
                self._idle[rank] = None

    def shares(self, key: Key) -> list[int]:
        """The workers whose share a task has that a worker has in hand: that one first."""
        entry = self._entries[key]
        assert entry.worker is not None
        return [entry.worker.rank, *entry.lent]

    def _new_first(self, worker: Worker, now: float) -> None:
        worker.first = worker.hand[0]
        worker.first_since = now
        if self.tell_at is None:
            self.tell_at = now + BEGUN_AFTER
        needs = worker.first.task.needs
        if needs is not None and needs.resources and "memory" in needs.resources and self._weigh_at is None:
            self._weigh_at = now + WEIGH
        if needs is not None and needs.walltime is not None and worker.state is not State.ENDING:
            worker.kill_at = now + needs.walltime + WALLTIME_GRACE
            self._timed.add(worker.rank)
        elif worker.kill_at is not None:
            worker.kill_at = None
            self._timed.discard(worker.rank)

    def _learn(self, function: int, seconds: float) -> None:
        seconds = max(seconds, 0.0) + OVERHEAD
        known = self._durations.get(function)
        # A function that turns slow must not be trusted for long.
        if known is None or seconds > 4 * known:
            self._durations[function] = seconds
        else:
            self._durations[function] = known + 0.2 * (seconds - known)

    # --------------------------------------------------------------------------------------------------- handing out

    def assign(self, now: float) -> list[Batch]:
        """Hand out what can be handed out; the batches are to be sent."""
        queue, idle = self._queue, self._idle
        if not queue.count:
            return []
        batches: dict[int, Batch] = {}
        while queue.count and idle:
            if queue.first().slots > 1:
                if len(idle) < queue.first().slots:
                    # Room was made for it elsewhere than here; it comes when enough have ended.
                    return list(batches.values())
                self._lend(queue.first())
            # The one that was busy last: its memory is still in the processor's cache.
            worker = self._workers[next(reversed(idle))]
            self._give(worker, queue.pop(), batches, now)
        if queue.count:
            self._send_ahead(batches, now)
        if self._share is not None and self._weigh_at is None:
            self._weigh_at = now + WEIGH
        return list(batches.values())

    def _send_ahead(self, batches: dict[int, Batch], now: float) -> None:
        queue = self._queue
        while queue.count:
            function = queue.first().task.function
            estimate = self._durations.get(function, _UNKNOWN)
            if estimate > AHEAD / 2 or queue.first().slots > 1:
                return
            takers = [
                worker
                for worker in self._workers.values()
                if worker.state is State.OPEN
                and worker.load + estimate <= AHEAD
                and len(worker.hand) < MOST_AHEAD
                and worker.rank not in self._lent
            ]
            if not takers:
                return
            share = max(1, queue.count // len(takers))
            for worker in takers:
                room = min(share, MOST_AHEAD - len(worker.hand), max(1, int((AHEAD - worker.load) / estimate)))
                while room > 0 and queue.count:
                    first = queue.first()
                    if first.task.function != function or first.slots > 1:
                        break
                    room -= 1
                    self._give(worker, queue.pop(), batches, now)
            if self._check_at is None:
                self._check_at = now + STUCK_BESIDE_IDLE

    def _give(self, worker: Worker, entry: Entry, batches: dict[int, Batch], now: float) -> None:
        rank, task = worker.rank, entry.task
        batch = batches.get(rank)
        if batch is None:
            batch = batches[rank] = Batch(rank, [], [])
        batch.tasks.append(task)
        if task.function not in worker.known:
            worker.known.add(task.function)
            batch.functions.append(task.function)
        worker.sent += 1
        entry.worker = worker
        entry.number = worker.sent
        entry.estimate = self._durations.get(task.function, _UNKNOWN)
        worker.load += entry.estimate
        worker.hand.append(entry)
        if len(worker.hand) == 1:
            self._idle.pop(rank, None)
            self._new_first(worker, now)

    # --------------------------------------------------------------------------------------------------- taking back

    def _revoke(self, worker: Worker, number: int, now: float) -> bool:
        """Begin to take back a worker's tasks from ``number`` on; False if it is too late to ask."""
        later = worker.state in (State.REVOKED, State.SKIPPING) and number < worker.revoked
        if worker.state is State.OPEN or later:
            worker.state = State.REVOKED
            worker.revoked = number
            worker.look_at = now + SETTLE
            self._revoking.add(worker.rank)
            self._idle.pop(worker.rank, None)
            self._orders.append(Revoke(worker.rank, number))
            return True
        return worker.state is State.REVOKED

    def looked(self, rank: int, started: int, now: float) -> None:
        """What ``Look`` has found.

        Args:
            rank: The worker.
            started: Number of the task that it began last.
            now: Time.
        """
        worker = self._workers.get(rank)
        if worker is None:
            return
        if worker.state is State.REVOKED:
            self._caught(worker, started)
        if worker.state is State.SKIPPING:
            self._end_if_running(worker, started, now)
            self._after(worker, now)

    def _caught(self, worker: Worker, started: int) -> None:
        first = max(worker.revoked, started + 1)
        caught = [entry for entry in worker.hand if entry.number >= first]
        for entry in worker.hand:
            if entry.number < first and entry.cancelled and not (entry.ending is not None and entry.number == started):
                entry.cancelled = False
                self._running.append(entry.key)
        for _ in caught:
            worker.load -= worker.hand.pop().estimate
        worker.state = State.SKIPPING
        worker.skips += len(caught)
        self._revoking.discard(worker.rank)
        self._take_back(caught)

    def _take_back(self, entries: Sequence[Entry]) -> None:
        waiting = []
        for entry in entries:
            entry.worker = None
            entry.ending = None
            self._return(entry)
            if entry.cancelled or self.draining:
                del self._entries[entry.key]
                self._withdrawn.append(entry.key)
            else:
                waiting.append(entry)
        self._queue.push_front(waiting)

    def _answer(self, entry: Entry) -> None:
        del self._entries[entry.key]
        self._return(entry)
        if entry.cancelled:
            self._running.append(entry.key)

    # ---------------------------------------------------------------------------------------------------------- ending

    def _end_running(self, worker: Worker, entry: Entry, how: Terminate, now: float) -> None:
        """End a task that a worker has in hand, if it turns out to run; one that is cancelled may not have begun."""
        entry.ending = how
        if worker.state is State.ENDING or worker.state is State.RETIRING:
            # Its end is on the way, and answers the task.
            return
        number = entry.number if how.cause in (Cause.CANCEL, Cause.END) else entry.number + 1
        if not self._revoke(worker, number, now):
            # What is behind it is taken back already.
            self._orders.append(Look(worker.rank))

    def _end_if_running(self, worker: Worker, started: int, now: float) -> None:
        """Nothing begins on this worker any more: signal it if what it has begun is what is to be ended."""
        for entry in worker.hand:
            if entry.ending is None:
                continue
            if entry.number == started:
                worker.state = State.ENDING
                if worker.kill_at is not None:
                    worker.kill_at = None
                    self._timed.discard(worker.rank)
                self._orders.append(entry.ending)
            elif entry.number < started:
                # It ended, and its result is on the way.
                entry.ending = None
            else:
                # Not begun: its time has not even started.
                entry.ending = None
                if entry is worker.first:
                    self._new_first(worker, now)

    def weighed(self, rank: int, used: int, limit: int, now: float) -> None:
        """What ``Weigh`` has found.

        Args:
            rank: The worker.
            used: Bytes that it and its children use.
            limit: The order's.
            now: Time.
        """
        worker = self._workers.get(rank)
        if worker is None or used <= limit or not worker.hand:
            return
        entry = worker.hand[0]
        if entry.ending is None and limit == self._limit_of(entry):
            # At once: a node without memory is no place for a farewell.
            self._end_running(worker, entry, Terminate(rank, Cause.MEMORY, 0.0, limit, used), now)

    def _limit_of(self, entry: Entry) -> int | None:
        needs = entry.task.needs
        if needs is not None and needs.resources:
            asked = needs.resources.get("memory")
            if asked:
                return int(asked)
        return self._share

    def _weigh(self, now: float) -> None:
        self._weigh_at = None
        for worker in self._workers.values():
            limit = self._limit_of(worker.hand[0]) if worker.hand else None
            if limit is not None:
                self._weigh_at = now + WEIGH
                self._orders.append(Weigh(worker.rank, limit))

    # ----------------------------------------------------------------------------------------------------------- time

    def wake_at(self) -> float | None:
        """When ``tick`` is due; None for not before something happens."""
        if not self._timed and not self._revoking and self._weigh_at is None:
            return self._check_at
        due = [at for at in (self._check_at, self._weigh_at) if at is not None]
        for rank in self._timed:
            kill_at = self._workers[rank].kill_at
            if kill_at is not None:
                due.append(kill_at)
        due.extend(self._workers[rank].look_at for rank in self._revoking)
        return min(due, default=None)

    def tick(self, now: float) -> None:
        """Time has passed."""
        for rank in [*self._timed]:
            worker = self._workers[rank]
            if worker.kill_at is not None and worker.kill_at <= now:
                worker.kill_at = None
                self._timed.discard(rank)
                entry = worker.hand[0]
                needs = entry.task.needs
                assert needs is not None
                assert needs.walltime is not None
                if entry.ending is None:
                    how = Terminate(rank, Cause.WALLTIME, self._grace, needs.walltime)
                    self._end_running(worker, entry, how, now)
        if self._weigh_at is not None and self._weigh_at <= now:
            self._weigh(now)
        for rank in self._revoking:
            worker = self._workers[rank]
            if worker.look_at <= now:
                worker.look_at = now + SETTLE
                self._orders.append(Look(rank))
        if self._check_at is not None and self._check_at <= now:
            self._check(now)

    def _check(self, now: float) -> None:
        """Take back what is stuck behind a task that turned out long."""
        patience = STUCK_BESIDE_IDLE if self._idle and not self._queue.count else STUCK
        self._check_at = None
        for worker in self._workers.values():
            if len(worker.hand) > 1 and worker.state is State.OPEN:
                self._check_at = now + STUCK_BESIDE_IDLE
                if now - worker.first_since >= STUCK_BESIDE_IDLE:
                    self._orders.append(Collect(worker.rank))
                if now - worker.first_since >= patience:
                    self._revoke(worker, worker.hand[1].number, now)

    def take_orders(self) -> list[Order]:
        """What is to be done, in this order."""
        orders, self._orders = self._orders, []
        return orders

    def take_answers(self) -> Answers:
        """What the interchange is to be told beside results."""
        answers = Answers(self._withdrawn, self._running)
        self._withdrawn, self._running = [], []
        return answers

    def has_answers(self) -> bool:
        """Whether ``take_answers`` has something."""
        return bool(self._withdrawn or self._running)

    # ---------------------------------------------------------------------------------------------------- for tests

    def check_invariants(self) -> None:
        """Raise AssertionError where the state contradicts itself; for tests."""
        waiting = self._queue.entries()
        assert len(waiting) == self._queue.count
        assert all(entry.worker is None for entry in waiting)
        held = [entry for worker in self._workers.values() for entry in worker.hand]
        lent = [rank for entry in held for rank in entry.lent]
        assert len(lent) == len(set(lent)) and set(lent) == self._lent, "a share is lent twice, or to nobody"
        assert all(len(entry.lent) == entry.slots - 1 for entry in held)
        assert all(entry.lent == () for entry in waiting)
        assert not any(self._workers[rank].hand for rank in self._lent if rank in self._workers)
        assert sorted(entry.key for entry in (*waiting, *held)) == sorted(self._entries)
        for rank, worker in self._workers.items():
            hand = worker.hand
            assert all(entry.worker is worker for entry in hand)
            assert len(hand) <= MOST_AHEAD
            assert [entry.number for entry in hand] == sorted(entry.number for entry in hand)
            assert (rank in self._idle) == (worker.state is State.OPEN and not hand and rank not in self._lent)
            assert (rank in self._revoking) == (worker.state is State.REVOKED)
            assert worker.first is (hand[0] if hand else None) or worker.state is State.RETIRING
            assert (rank in self._timed) == (worker.kill_at is not None)
            assert worker.state is not State.ENDING or not hand or hand[-1].ending is not None
            assert not (self.draining and worker.state is State.OPEN and len(hand) > 1)
        order = [0.0 if entry.task.needs is None else entry.task.needs.priority for entry in waiting]
        assert order == sorted(order, reverse=True)
