"""The interchange: one process between a driver and its managers, ``python -m ...interchange FD``.

It exists so that the driver's Python has one connection to look after instead of thousands, and so that batching,
credits and lost managers cost the user's process nothing.  All decisions are ``dispatcher.Dispatcher``'s; this file
joins it with the driver, a ``Link`` on the inherited descriptor FD, and with the managers, who come through ``doors``.
One thread waits for all of them.

It is the driver's child and lives no longer: at end-of-file it tells the managers to end, and ends.
"""

from __future__ import annotations

import gc
import heapq
import logging
import os
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import msgspec

from flowlib.executors.high_throughput import far_logs, relay, whereabouts
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.dispatcher import Assignment, Dispatcher, Registration
from flowlib.executors.high_throughput.doors import Door, Letter, LocalDoor, Payload, RemoteDoor
from flowlib.executors.high_throughput.health import Health
from flowlib.executors.high_throughput.link import Frames, Link, LinkClosed
from flowlib.executors.high_throughput.lost import lost_payload, refused_payload
from flowlib.executors.high_throughput.managers import Key, Manager

log = logging.getLogger("flowlib.interchange")

VERSION = f"Python {m.PYTHON}, protocol {m.PROTOCOL}"
LINGER = 1.0
"""Seconds for the last messages to leave."""
STEAL_AFTER = 0.02
"""Seconds for which tasks may be prefetched at one manager while another is idle."""
_TICK = 1.0
_LAST_WORDS = 0.3
"""Seconds in which the last messages of a manager that is known to be dead arrive."""
_OBITUARY = 2.0
"""Seconds in which the driver says how a local manager's process ended."""
_COMPLAINTS = 100
_TOLD_AFTER = 1.0
"""Seconds for which a task runs before the driver is told that it does: those that are longer are few."""
_WORKER_LOST = int(m.Status.WORKER_LOST)


class Interchange:
    """The loop.

    Args:
        link: To the driver.
        setup: What the driver wants.
        early: Messages that came together with that.
        clock: Seconds, never going back.
    """

    def __init__(
        self, link: Link, setup: m.Setup, early: Sequence[Frames] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._link = link
        self._early = early
        self._setup = setup
        self._clock = clock
        self._core = Dispatcher(setup.selector)
        self._selector = selectors.DefaultSelector()
        self._remote = RemoteDoor(
            self._selector, setup.server_secret, lambda block, key: self._tell(m.Admit(block, key))
        )
        self._local = LocalDoor(self._selector, setup.local, self._on_gone)
        self._functions: dict[int, m.Function] = {}
        self._names: dict[bytes, str] = {}
        self._addresses: dict[str, tuple[Door, bytes]] = {}
        self._draining_blocks: set[str] = set()
        self._health = Health()
        self._quarantined: dict[str, str] = {}
        # Results of one turn, which go to the driver as one message for each manager.
        self._answers: dict[str, list[m.Result]] = {}
        self._recovering = setup.recovering
        # By manager: the number of its last results, and the last number that it was told.
        self._arrived: dict[str, int] = {}
        self._confirmed: dict[str, int] = {}
        self._complaints = 0
        # What managers said to have begun and the driver was not told: time by both clocks, manager, attempts.
        self._begun: deque[tuple[float, float, str, list[Key]]] = deque()
        self._dying: list[tuple[float, str, str]] = []
        now = clock()
        self._beat_at = now + setup.heartbeat_period
        self._steal_at: float | None = None
        self._from_driver: dict[type, Callable[[Any], None]] = {
            m.Cancel: self._on_cancel,
            m.Admit: lambda message: self._remote.admit(message.block, message.public_key, message.once),
            m.Command: self._on_command,
            m.Forget: self._on_forget,
            m.Heartbeat: lambda message: self._tell(m.Heartbeat(message.sent)),
        }
        self._from_manager: dict[type, Callable[[str, Any], None]] = {
            m.NotCancelled: self._on_not_cancelled,
            m.Goodbye: self._on_goodbye,
            m.Begun: self._on_begun,
            m.Drain: lambda name, message: self._on_draining(name, message.reason),
            m.Heartbeat: lambda name, message: None,
        }

    # --------------------------------------------------------------------------------------------------------- life

    def run(self) -> None:
        """Bind, and work until the driver is gone or says so."""
        try:
            error = ""
            port = 0
            try:
                port = self._remote.bind(self._setup.bind, self._setup.ports)
            except OSError as e:
                error = str(e)
            self._tell(m.Bound(port, error))
            if error:
                log.error("%s", error)
                return
            log.info("listening on %s, port %d", ", ".join(self._setup.bind), port)
            if self._hear_driver(self._early):
                self._loop()
        except LinkClosed as e:
            log.info("the driver is gone (%s)", e)
        finally:
            self._end()

    def _loop(self) -> None:
        link, core, clock, selector = self._link, self._core, self._clock, self._selector
        local, remote, home = self._local, self._remote, link.fileno()
        selector.register(home, selectors.EVENT_READ)
        watching_out = False
        tick = min(_TICK, self._setup.heartbeat_period, self._setup.heartbeat_threshold / 4)
        now = clock()
        tick_at = now + tick
        while True:
            if link.unsent != watching_out:
                watching_out = link.unsent
                selector.modify(home, selectors.EVENT_READ | (selectors.EVENT_WRITE if watching_out else 0))
            wake_at = tick_at if self._steal_at is None else min(tick_at, self._steal_at)
            if self._dying:
                wake_at = min(wake_at, self._dying[0][0])
            timeout = 0.0 if remote.pending() else max(0.0, wake_at - clock())
            ready = {key.fd: events for key, events in selector.select(timeout)}
            previous, now = now, clock()
            if now - max(previous, wake_at) > tick:
                # This process itself stood still, so the silence of the managers means nothing.
                for manager in core.managers.values():
                    manager.heard += now - previous
            if home in ready:
                if watching_out:
                    link.flush()
                if not self._hear_driver(link.receive()):
                    return
            for letter in local.receive(ready):
                self._hear_manager(local, letter, now)
            for letter in remote.receive(ready):
                self._hear_manager(remote, letter, now)
            self._flush_answers()
            while self._dying and now >= self._dying[0][0]:
                _, name, why = heapq.heappop(self._dying)
                self._give_up(name, why, for_good=True)
            if now >= tick_at:
                tick_at = now + tick
                self._tick(now)
            self._distribute(now)

    def _end(self) -> None:
        """Tell the managers to end, and wait a moment for that to leave."""
        for name in list(self._addresses):
            self._send(name, m.Shutdown("the run is over"))
        self._local.close(LINGER)
        self._remote.close(LINGER)
        self._selector.close()
        self._link.close()

    def _tick(self, now: float) -> None:
        setup = self._setup
        for manager in self._core.silent(now - setup.heartbeat_threshold):
            self._give_up(manager.name, f"nothing was heard from it for {setup.heartbeat_threshold:g} s")
        for name, number in self._arrived.items():
            if self._confirmed.get(name, 0) < number and not self._link.unsent:
                self._confirmed[name] = number
                self._send(name, m.Confirmed(number))
        self._core.relent(now)
        for manager, keys in self._core.recall():
            self._send(manager.name, m.Cancel(keys))
        for manager in self._core.useless():
            self._drain(manager.name, "its job ends too soon for all that waits")
        if self._quarantined:
            self._release_if_needed()
        while self._begun and now >= self._begun[0][0] + _TOLD_AFTER:
            _, since, name, keys = self._begun.popleft()
            there = self._core.running(name, keys)
            if there:
                self._tell(m.Running(name, since, there))
        if now >= self._beat_at:
            self._beat_at = now + setup.heartbeat_period
            beat = m.encode(m.Heartbeat(time.time()))
            for name in self._core.managers:
                self._send_frames(name, [beat])

    # --------------------------------------------------------------------------------------------------- the driver

    def _tell(self, message: m.Message) -> None:
        self._flush_answers()
        self._link.send([m.encode(message)])

    def _flush_answers(self) -> None:
        """Send the results that have gathered; what is sent afterwards may rest on them."""
        if self._answers:
            answers, self._answers = self._answers, {}
            for manager, results in answers.items():
                self._tell_results(manager, results)

    def _tell_results(self, manager: str, results: list[m.Result]) -> None:
        attachments: list[Payload] = []
        for result in results:
            payload: Payload = result.payload
            if len(payload) > m.INLINE_LIMIT:
                result.payload = len(attachments)
                attachments.append(payload)
        self._link.send([m.encode(m.Results(results, manager)), *attachments])

    def _tell_lost(self, manager: Manager, keys: Sequence[Key], reason: str) -> None:
        if not keys:
            return
        self._flush_answers()
        payload = lost_payload(manager.facts, reason)
        self._tell_results(manager.name, [m.Result(t, a, m.Status.LOST, payload) for t, a in keys])

    def _tell_unstarted(self, manager: Manager, keys: Sequence[Key]) -> None:
        """The driver launches these again, at no charge: the manager may still come back with them."""
        if keys:
            self._flush_answers()
            self._tell_results(manager.name, [m.Result(t, a, m.Status.WITHDRAWN) for t, a in keys])

    def _refuse_impossible(self) -> None:
        """Nodes are known now: what none of them can hold would wait for ever."""
        for task, (name, amount, there) in self._core.impossible():
            payload = refused_payload(self._setup.label, name, amount, there)
            self._flush_answers()
            self._tell_results("", [m.Result(task.task, task.attempt, m.Status.REFUSED, payload)])

    def _tell_change(self, facts: m.Register, change: str, reason: str = "", *, details: bool = False) -> None:
        self._tell(
            m.ManagerChanged(
                facts.manager, change, facts.block, facts.host, facts.slots, reason, facts if details else None
            )
        )

    def _hear_driver(self, received: Sequence[Frames]) -> bool:
        """Do what the driver says; False once it says to end."""
        for frames in received:
            message = m.decode(frames[0])
            kind = type(message)
            if isinstance(message, m.Tasks):
                for function in message.functions:
                    self._functions[function.function] = function
                if len(frames) > 1:
                    for task in message.tasks:
                        if type(task.payload) is int:
                            task.payload = frames[task.payload + 1]
                self._core.submit(message.tasks)
            elif kind is m.Shutdown:
                return False
            elif kind in self._from_driver:
                self._from_driver[kind](message)
            elif kind in relay.KINDS:
                relay.from_driver(message, frames, self._send_frames)
            else:
                log.error("the driver sent a message of kind %s, which is none for an interchange", kind.__name__)
        return True

    def _on_cancel(self, message: m.Cancel) -> None:
        done = self._core.cancel(message.tasks)
        if done.withdrawn:
            self._tell_results("", [m.Result(t, a, m.Status.WITHDRAWN) for t, a in done.withdrawn])
        if done.unknown:
            self._tell(m.NotCancelled(done.unknown))
        for manager, keys in done.ask:
            self._send(manager.name, m.Cancel(keys, message.grace))

    def _on_forget(self, message: m.Forget) -> None:
        for number in message.functions:
            self._functions.pop(number, None)
        self._core.forget_functions(message.functions)
        header = m.encode(message)
        for name in self._core.managers:
            self._send_frames(name, [header])

    def _on_command(self, message: m.Command) -> None:
        self._tell(m.Reply(message.number, self._answer(message.name, message.arguments)))

    def _answer(self, name: str, arguments: list[Any]) -> Any:
        core, now = self._core, self._clock()
        if name == "managers":
            return [self._describe(manager, now) for manager in core.managers.values()]
        if name == "load":
            running, idle = core.running_in_blocks(), core.idle_blocks(now)
            asked, extra = core.asked()
            blocks = {b: (running[b], idle[b]) for b in idle}
            return {"running": core.outstanding, "blocks": blocks, "asked": asked, "extra": extra}
        if name == "idle":
            return core.idle_blocks(now)
        if name == "where":
            begun = {key: since for _, since, _, keys in self._begun for key in keys}
            return whereabouts.describe(core, [(task, tried) for task, tried in arguments], self._quarantined, begun)
        if name == "held":
            self._recovering = False
            return core.held()
        if name == "hold_manager":
            return core.hold(arguments[0])
        if name == "hold_block":
            return [manager.name for manager in core.of_block(arguments[0]) if core.hold(manager.name)]
        if name == "drain_blocks":
            self._draining_blocks.update(arguments[0])
            drained = [manager.name for block in arguments[0] for manager in core.of_block(block)]
            for manager in drained:
                self._drain(manager, "the block is not needed any more")
            return drained
        if name == "block_ended":
            block, why = arguments
            dead = [manager.name for manager in core.of_block(block)]
            for manager in dead:
                heapq.heappush(self._dying, (now + _LAST_WORDS, manager, why))
            return dead
        log.error("the driver sent the command %r, which is unknown", name)
        return None

    def _describe(self, manager: Manager, now: float) -> dict[str, Any]:
        facts = manager.facts
        return {
            "manager": manager.name,
            "block_id": facts.block,
            "worker_count": manager.slots,
            "tasks": manager.used,
            "idle_duration": 0.0 if manager.used else now - manager.idle_since,
            "active": manager.open,
            "flowlib_version": facts.version,
            "python_version": facts.python,
            "draining": manager.draining,
            "hostname": facts.host,
            "prefetch": manager.prefetch,
        }

    # ------------------------------------------------------------------------------------------------- the managers

    def _send(self, manager: str, message: m.Message) -> bool:
        return self._send_frames(manager, [m.encode(message)])

    def _send_frames(self, manager: str, frames: Sequence[Payload]) -> bool:
        """Send to a manager; False if its connection is gone."""
        address = self._addresses.get(manager)
        return address is not None and address[0].send(address[1], frames)

    def _hear_manager(self, door: Door, letter: Letter, now: float) -> None:
        core = self._core
        name = self._names.get(letter.identity)
        try:
            message = m.decode(letter.header)
            if isinstance(message, m.Results):
                resolve(message.results, letter.attachments)
        except (msgspec.DecodeError, ValueError) as e:
            self._malformed(door, letter, e)
            return
        if isinstance(message, m.Register):
            self._on_register(door, letter, message, now)
            return
        if name is None:
            # Its registration comes, or it was refused; what it finished before counts all the same.
            if isinstance(message, m.Results):
                self._finish("", message.results, now)
            return
        core.heard(name, now)
        if name not in core.managers:
            self._revive(name, now)
        if isinstance(message, m.Results):
            self._arrived[name] = message.number
            self._finish(name, message.results, now)
        elif isinstance(message, m.Note):
            self._flush_answers()
            self._link.send([bytes(letter.header)])
        elif type(message) in self._from_manager:
            self._from_manager[type(message)](name, message)
        elif type(message) in relay.KINDS:
            # A result that it speaks of has to be there before.
            self._flush_answers()
            self._link.send(relay.from_manager(name, message, letter.attachments))
        else:
            self._complain("manager %s sent a %s, which is none for an interchange", name, type(message).__name__)

    def _finish(self, name: str, results: list[m.Result], now: float) -> None:
        accepted = self._core.finish(name, results, now)
        if len(accepted) < len(results):
            self._tell_unwanted(name, results, accepted)
        if accepted:
            self._look_at_health(name, accepted, now)
            gathered = self._answers.get(name)
            if gathered is None:
                self._answers[name] = accepted
            else:
                gathered += accepted

    def _tell_unwanted(self, name: str, results: list[m.Result], accepted: list[m.Result]) -> None:
        keys = relay.unwanted(results, accepted)
        if keys:
            # They may have come twice, and then they are wanted: the driver knows.
            self._tell(m.Holding(keys, name))

    def _look_at_health(self, name: str, results: list[m.Result], now: float) -> None:
        manager = self._core.managers.get(name)
        if manager is None:
            return
        host = manager.facts.host
        died = [result for result in results if result.status == _WORKER_LOST]
        self._health.done(host, len(results) - len(died))
        if died:
            for result in died:
                self._health.died(host, result.task, now)
            if host not in self._quarantined:
                reason = self._health.verdict(host, now)
                if reason:
                    self._quarantine(host, reason)

    def _quarantine(self, host: str, reason: str) -> None:
        """Give a host no more tasks: it would go on ruining them, faster than others do them."""
        self._quarantined[host] = reason
        log.error("host %s is quarantined: %s", host, reason)
        for manager in list(self._core.managers.values()):
            if manager.facts.host == host:
                self._hold(manager.facts, reason)

    def _release_if_needed(self) -> None:
        """A bad host is better than none: when work waits and nobody else is there, quarantine ends."""
        core = self._core
        if core.waiting and not any(manager.open for manager in core.managers.values()):
            held = [m for m in core.managers.values() if m.held and m.facts.host in self._quarantined]
            for manager in held:
                log.warning("host %s gets tasks again: there is no other", manager.facts.host)
                core.release(manager.name)
                self._tell_change(manager.facts, "released", "there is no other host")
            for manager in held:
                self._quarantined.pop(manager.facts.host, None)

    def _hold(self, facts: m.Register, reason: str) -> None:
        self._core.hold(facts.manager)
        self._tell_change(facts, "quarantined", reason)

    def _malformed(self, door: Door, letter: Letter, error: Exception) -> None:
        """A message that cannot be read harms nobody; a registration among them is refused with the reason."""
        self._complain("dropped a malformed message of %d bytes: %s", len(letter.header), error)
        try:
            parts = msgspec.msgpack.decode(letter.header)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return
        if isinstance(parts, list) and len(parts) > 1 and parts[0] == 20:
            told = f"protocol {parts[1]!r}"
            door.send(
                letter.identity, [m.encode(m.Rejected(f"this interchange speaks protocol {m.PROTOCOL}, not {told}"))]
            )

    def _on_register(self, door: Door, letter: Letter, facts: m.Register, now: float) -> None:
        refusal, mismatch = self._refusal(door, letter, facts)
        if refusal:
            log.error("refused manager %s on %s: %s", facts.manager, facts.host, refusal)
            door.send(letter.identity, [m.encode(m.Rejected(refusal))])
            if mismatch:
                self._tell_change(facts, "rejected", refusal, details=True)
            return
        old = self._addresses.pop(facts.manager, None)
        if old is not None:
            self._names.pop(old[1], None)
        self._names[letter.identity] = facts.manager
        self._addresses[facts.manager] = (door, letter.identity)
        setup = self._setup
        door.send(letter.identity, [m.encode(m.Registered(setup.heartbeat_period, setup.heartbeat_threshold))])
        registration = self._core.register(facts, now, adopt=self._recovering)
        self._welcome(registration, again=old is not None)

    def _refusal(self, door: Door, letter: Letter, facts: m.Register) -> tuple[str, bool]:
        """Why a manager is not let in, or "", and whether that is for its version."""
        if facts.protocol != m.PROTOCOL or not m.same_python(facts.python, self._setup.driver_python):
            theirs = f"Python {facts.python}, protocol {facts.protocol}"
            ours = f"Python {self._setup.driver_python}, protocol {m.PROTOCOL}"
            return f"the manager runs {theirs}, the driver {ours}; both must be the same", True
        block = door.block_of(letter)
        if block not in ("", facts.block):
            return f"it says that it belongs to block {facts.block!r}, its key to block {block!r}", False
        return "", False

    def _welcome(self, registration: Registration, *, again: bool) -> None:
        manager = registration.manager
        log.info(
            "manager %s on %s, block %s, %d workers, is %s",
            *(manager.name, manager.facts.host, manager.facts.block, manager.slots, "back" if again else "here"),
        )
        self._tell_lost(manager, registration.lost.begun, "its connection broke, and what was under way is gone")
        self._tell_unstarted(manager, registration.lost.unstarted)
        if registration.ghosts:
            self._send(manager.name, m.Cancel(registration.ghosts))
        self._tell_change(manager.facts, "registered", "again" if again else "", details=not again)
        if manager.facts.host in self._quarantined:
            self._hold(manager.facts, self._quarantined[manager.facts.host])
        self._refuse_impossible()
        if manager.draining or manager.facts.block in self._draining_blocks:
            self._drain(manager.name, "the block is not needed any more")

    def _revive(self, name: str, now: float) -> None:
        registration = self._core.revive(name, now)
        if registration is not None:
            self._welcome(registration, again=True)

    def _give_up(self, name: str, reason: str, *, for_good: bool = False, answered: bool = False) -> None:
        manager = self._core.managers.get(name)
        if manager is None:
            return
        had = len(manager.running)
        begun, unstarted = self._core.lose(name, for_good=for_good, answered=answered)
        log.warning(
            "manager %s on %s is lost with %d tasks, of which %d had begun: %s",
            *(name, manager.facts.host, had, len(begun), reason),
        )
        self._tell_lost(manager, begun, reason)
        self._tell_unstarted(manager, unstarted)
        self._tell_change(manager.facts, "lost", reason)

    def _on_gone(self, identity: bytes) -> None:
        """A local manager's process is gone; the driver may know how."""
        name = self._names.get(identity)
        if name is None:
            return
        self._forget_address(name)
        self._core.sever(name)
        heapq.heappush(self._dying, (self._clock() + _OBITUARY, name, "its process is gone"))

    def _forget_address(self, name: str) -> None:
        address = self._addresses.pop(name, None)
        if address is not None:
            self._names.pop(address[1], None)
        self._arrived.pop(name, None)
        self._confirmed.pop(name, None)

    def _on_goodbye(self, name: str, message: m.Goodbye) -> None:
        manager = self._core.managers.get(name)
        self._forget_address(name)
        if manager is None:
            return
        if manager.running:
            self._give_up(name, message.reason or "it ended before its tasks did", for_good=True, answered=True)
            return
        self._core.lose(name, for_good=True)
        log.info("manager %s on %s has left: %s", name, manager.facts.host, message.reason or "it is done")
        self._tell_change(manager.facts, "drained", message.reason)

    def _on_begun(self, name: str, message: m.Begun) -> None:
        self._core.begun(name, message.tasks)
        self._begun.append((self._clock(), time.time(), name, message.tasks))

    def _on_not_cancelled(self, name: str, message: m.NotCancelled) -> None:
        told = self._core.not_cancelled(message.tasks)
        if told:
            self._tell(m.NotCancelled(told))

    def _on_draining(self, name: str, reason: str) -> None:
        if self._core.drain(name):
            self._tell_change(self._core.managers[name].facts, "draining", reason)

    def _drain(self, name: str, reason: str) -> None:
        self._on_draining(name, reason)
        self._send(name, m.Drain(reason))

    def _complain(self, text: str, *arguments: Any) -> None:
        """Log what a manager did wrong, but not without end."""
        self._complaints += 1
        if self._complaints <= _COMPLAINTS:
            log.warning(text, *arguments)
            if self._complaints == _COMPLAINTS:
                log.warning("further complaints of this kind are not logged")

    # ----------------------------------------------------------------------------------------------------- the work

    def _distribute(self, now: float) -> None:
        core = self._core
        if core.has_fresh:
            self._refuse_impossible()
        for assignment in core.assign(now):
            if not self._hand_out(assignment):
                core.cut(assignment)
        if not core.imbalanced:
            self._steal_at = None
        elif self._steal_at is None:
            self._steal_at = now + STEAL_AFTER
        elif now >= self._steal_at:
            self._steal_at = now + STEAL_AFTER
            for manager, keys in core.steal():
                self._send(manager.name, m.Cancel(keys))

    def _hand_out(self, assignment: Assignment) -> bool:
        tasks = assignment.tasks
        attachments: list[Payload] = []
        for i, task in enumerate(tasks):
            payload: Payload = task.payload
            if len(payload) > m.INLINE_LIMIT:
                # The dispatcher keeps the task as it is, in case it comes back.
                tasks[i] = m.Task(task.task, task.attempt, task.function, len(attachments), task.needs)
                attachments.append(payload)
        functions = self._functions
        bodies = [functions[number] for number in assignment.functions if number in functions]
        name = assignment.manager.name
        confirmed = self._confirmed.get(name, 0)
        if not self._link.unsent:
            confirmed = self._confirmed[name] = self._arrived.get(name, 0)
        return self._send_frames(name, [m.encode(m.Tasks(tasks, bodies, confirmed)), *attachments])


def resolve(results: list[m.Result], attachments: Sequence[Payload]) -> None:
    """Put the payloads that came as attachments where they belong.

    Raises:
        ValueError: A result names an attachment that is not there.
    """
    for result in results:
        payload: Payload = result.payload
        if type(payload) is int:
            if not 0 <= payload < len(attachments):
                raise ValueError(f"a result names attachment {payload} of {len(attachments)}")
            result.payload = attachments[payload]


def main(arguments: Sequence[str]) -> None:
    """Run the interchange on an inherited socket."""
    link = Link(socket.socket(fileno=int(arguments[0])))
    setup, early = _first_message(link)
    far_logs.start(setup.log_config, setup.log, setup.debug, sys.stderr)
    log.info("interchange of %s, %s, process %d", setup.label, VERSION, os.getpid())
    # What waits here are plain values without cycles; looking through them again and again finds nothing.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    Interchange(link, setup, early).run()
    log.info("ended")


def _first_message(link: Link, patience: float = 60.0) -> tuple[m.Setup, list[Frames]]:
    give_up_at = time.monotonic() + patience
    received: list[Frames] = []
    with selectors.DefaultSelector() as selector:
        selector.register(link.fileno(), selectors.EVENT_READ)
        while not received:
            if not selector.select(max(0.0, give_up_at - time.monotonic())):
                _exit(f"the driver said nothing for {patience:g} s")
            try:
                received = link.receive()
            except LinkClosed:
                _exit("the driver is gone")
    setup = m.decode(received[0][0])
    if not isinstance(setup, m.Setup):
        _exit(f"the driver's first message is a {type(setup).__name__}, not a Setup")
    return setup, received[1:]


def _exit(reason: str) -> NoReturn:
    sys.exit(f"interchange: {reason}")


if __name__ == "__main__":
    main(sys.argv[1:])
