"""The driver's end of the store: which large objects there are, where each is, and who asks for it.

An object is here, or on the node where a task made it.  Nodes ask for what their tasks need, and this side asks for
what somebody in the driver needs; an object that is elsewhere is fetched here first and passed on from here.  Nobody
pushes: whoever is without an answer asks again, so that it does not matter which process on the way died.

Users' threads put, need and drop objects; each executor's I/O thread brings what its nodes say.  One lock guards the
table.  Nothing blocks while it is held, and the last drop of a reference, which may happen anywhere, does not take it.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

from flowlib.dataflow.shield import SHIELD
from flowlib.errors import InternalConsistencyError, NoRoom, ObjectLost
from flowlib.store.packing import Part, pack
from flowlib.store.pulls import Pulls
from flowlib.store.segments import LINUX, Segment
from flowlib.store.stored import Stored
from flowlib.store.vault import Vault
from flowlib.units import format_size

PATIENCE = 150.0
"""Seconds without any progress after which somebody who waits for an object is told. A lost node is told of before."""
AGAIN = 2.0
"""Seconds without progress after which it is asked for again."""
DEFAULT_LIMIT = 1 << 30

Id = bytes


class Link(Protocol):
    """How the nodes of one executor are reached. All calls come with the table's lock held and must not block."""

    def want(self, node: str, pieces: Sequence[tuple[Id, int, int]], copy: bool) -> None:
        """Ask a node for pieces ``(object, offset, length)``; with ``copy`` not for the place where they are."""

    def give(self, node: str, key: Id, offset: int, data: memoryview) -> None:
        """Send a piece to a node."""

    def point(self, node: str, key: Id, path: str) -> None:
        """Tell a node where it may find an object on its own machine."""

    def refuse(self, node: str, keys: list[Id], reason: str) -> None:
        """Tell a node that it cannot have objects."""

    def free(self, nodes: list[str], keys: list[Id]) -> None:
        """Tell nodes that objects are not needed any more. In whichever thread dropped the last reference."""


Place = tuple[Link, str]


class Entry:
    """One object.

    Attributes:
        key: Its id.
        size: Its bytes.
        ref: Weak reference to the ``Stored`` that stands for it.
        holder: The node that has the only one, if it is not here.
        made: Which task made it, for messages; "" if none did.
        host: Where.
        at: The nodes that may have it.
        lost: Why it is nowhere; "" otherwise.
        unmade: Why it cannot be made again; "" if nobody has found that.
        moved: When the last piece of it came.
        changed: Set when it came here or was lost; there while somebody waits.
        asked: Pieces that nodes wait for: place, offset, length.
    """

    __slots__ = ("asked", "at", "changed", "holder", "host", "key", "lost", "made", "moved", "ref", "size", "unmade")

    def __init__(self, key: Id, size: int) -> None:
        self.key = key
        self.size = size
        self.ref: _Ref
        self.holder: Place | None = None
        self.made = ""
        self.host = ""
        self.at: set[Place] = set()
        self.lost = ""
        self.unmade = ""
        self.moved = 0.0
        self.changed: threading.Event | None = None
        self.asked: list[tuple[Place, int, int]] = []

    def what(self) -> str:
        """The object in a message."""
        what = f"the result of {self.made}" if self.made else f"object {self.key.hex()[:12]}"
        return f"{what} ({format_size(self.size)})"

    def error(self) -> ObjectLost:
        """Why it cannot be had."""
        where = f" was kept on host {self.host}, and" if self.host else ""
        why = f"; {self.unmade}" if self.unmade else ""
        return ObjectLost(f"{self.what()}{where} is lost: {self.lost}{why}")


class _Ref(weakref.ref[Stored]):
    __slots__ = ("key",)

    key: Id


class _Guard:
    """The table's lock. What died while it was held, and so could not be buried, is buried when it is let go."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        SHIELD.__enter__()
        self._lock.acquire()
        self._home._bury()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
        self.settle()
        SHIELD.__exit__(kind, error, traceback)

    def settle(self) -> None:
        """Bury, unless somebody holds the lock, who will."""
        while self._home._dead and self._lock.acquire(blocking=False):
            try:
                self._home._bury()
            finally:
                self._lock.release()


class Home:
    """The table.

    Attributes:
        host: This machine's name.
    """

    def __init__(self) -> None:
        self.host = socket.gethostname()
        self._guard = _Guard(self)
        self._entries: dict[Id, Entry] = {}
        self._vault = Vault(DEFAULT_LIMIT, tempfile.gettempdir(), nameless=True)
        self._dead: deque[_Ref] = deque()
        self._pulls: dict[Place, Pulls] = {}
        self._links: list[Link] = []
        self._leaving: set[Place] = set()
        # Those of which a part is here.
        self._arriving: set[Id] = set()

    def __len__(self) -> int:
        with self._guard:
            return len(self._entries)

    @property
    def used(self) -> int:
        """Bytes of memory that objects take here."""
        with self._guard:
            return self._vault.ledger.used

    # ------------------------------------------------------------------------------------------------ links come, go

    def attach(self, link: Link, limit: int, directory: str | None) -> None:
        """An executor starts.

        Args:
            link: To its nodes.
            limit: Bytes that objects may take of memory here; of several executors the largest counts.
            directory: Where the rest goes; None for the usual temporary directory.
        """
        with self._guard:
            if not self._links and not self._entries:
                self._vault = Vault(limit, directory or tempfile.gettempdir(), nameless=True)
            else:
                self._vault.ledger.limit = max(self._vault.ledger.limit, limit)
            self._links.append(link)

    def detach(self, link: Link) -> None:
        """An executor has ended, and its nodes with it."""
        with self._guard:
            if link in self._links:
                self._links.remove(link)
            for entry in self._entries.values():
                entry.at = {place for place in entry.at if place[0] is not link}
                entry.asked = [asked for asked in entry.asked if asked[0][0] is not link]
                if entry.holder is not None and entry.holder[0] is link:
                    self._lose(entry, "its executor was shut down before anybody asked for it")
            for place in [place for place in self._pulls if place[0] is link]:
                del self._pulls[place]
            self._leaving = {place for place in self._leaving if place[0] is not link}

    # ----------------------------------------------------------------------------------------------- users' threads

    def put(self, obj: Any) -> Stored:
        """Store a value.

        Raises:
            SerializationError: It cannot be sent.
            NoRoom: There is no room for it.
        """
        from flowlib.serialize.arguments import dump_object

        body, buffers = dump_object(obj)
        return self.put_parts(pack(body, buffers))

    def put_parts(self, parts: list[Part]) -> Stored:
        """Store a value that is pickled and laid out already.

        Raises:
            NoRoom: There is no room for it.
        """
        return self._store(os.urandom(16), parts)

    def keep(self, raw: memoryview) -> Stored:
        """Store a buffer as it is now, under the name of its content: equal ones are stored once.

        Raises:
            NoRoom: There is no room for it.
        """
        from hashlib import sha256

        # Hashed every time: whoever owns the buffer may have written to it since it was seen last.
        key = sha256(raw).digest()[:16]
        with self._guard:
            stored = self._living(key)
        return stored or self._store(key, [raw])

    def _store(self, key: Id, parts: list[Part]) -> Stored:
        size = sum(map(len, parts))
        vault = self._vault
        with self._guard:
            if key in vault.ledger:
                # Another thread is storing the same content at this moment.
                key = os.urandom(16)
            segment = vault.create(key, size, original=True)
            vault.pin(key)
        try:
            segment.write(parts)
        except BaseException:
            with self._guard:
                vault.free(key)
                vault.unpin(key)
            raise
        with self._guard:
            vault.unpin(key)
            return self._enter(Entry(key, size))

    def need(self, entry: Entry) -> Segment:
        """The memory of an object, which is fetched if it is elsewhere.

        Raises:
            ObjectLost: It is nowhere, or does not come.
        """
        with self._guard:
            segment = self._whole(entry.key)
            if segment is not None:
                return segment
            if entry.lost:
                raise entry.error()
            if threading.current_thread().name.startswith("flowlib-io-"):
                raise InternalConsistencyError("a thread that brings objects waits for one; please report this")
            self._fetch(entry)
            changed = entry.changed = entry.changed or threading.Event()
        while not changed.wait(AGAIN):
            with self._guard:
                now = monotonic()
                if now - entry.moved > PATIENCE and not entry.lost:
                    raise ObjectLost(f"nothing of {entry.what()} came within {PATIENCE:g} s")
                if entry.holder is not None:
                    self._ask(entry.holder, now - AGAIN)
        with self._guard:
            segment = self._whole(entry.key)
            if segment is None:
                raise entry.error()
            return segment

    def replace(self, stored: Stored, entry: Entry) -> None:
        """A lost value was made again: what stood for the old object stands for the new one from now on."""
        with self._guard:
            old, stored.entry = stored.entry, entry
            if old is not entry and self._entries.get(old.key) is old:
                self._remove(old)
            self._tell(old)

    def bring_home(self, link: Link, patience: float) -> None:
        """Fetch what is still referred to and is only on an executor's nodes, because these are about to end.

        Args:
            link: To the nodes.
            patience: Most seconds to wait.
        """
        deadline = monotonic() + patience
        while True:
            with self._guard:
                waiting: threading.Event | None = None
                for entry in self._entries.values():
                    if entry.holder is not None and entry.holder[0] is link and not entry.lost:
                        self._fetch(entry)
                        self._ask(entry.holder, monotonic() - AGAIN)
                        waiting = entry.changed = entry.changed or threading.Event()
            left = deadline - monotonic()
            if waiting is None or left <= 0:
                return
            waiting.wait(min(left, AGAIN))

    # --------------------------------------------------------------------------------------------- an executor's thread

    def adopt(self, place: Place, key: Id, size: int, made: str, host: str) -> Stored:
        """A task has made an object, which stays where it is."""
        with self._guard:
            entry = Entry(key, size)
            entry.holder = place
            entry.at.add(place)
            entry.made, entry.host = made, host
            stored = self._enter(entry)
            if place in self._leaving:
                self._fetch(entry)
            return stored

    def wanted(self, place: Place, host: str, pieces: Sequence[tuple[Id, int, int]], copy: bool) -> None:
        """A node asks for pieces of objects.

        Args:
            place: The node.
            host: Its machine.
            pieces: ``(object, offset, length)``.
            copy: Whether it could not open what it was pointed to.
        """
        with self._guard:
            pointed: set[Id] = set()
            for key, offset, length in pieces:
                entry = self._entries.get(key)
                if entry is None or entry.ref() is None:
                    place[0].refuse(place[1], [key], "nobody refers to it any more")
                    continue
                entry.at.add(place)
                segment = self._whole(key)
                if segment is None and entry.lost:
                    place[0].refuse(place[1], [key], str(entry.error()))
                elif segment is None:
                    entry.asked.append((place, offset, length))
                    self._fetch(entry)
                elif LINUX and host == self.host and not copy and segment.path:
                    if key not in pointed:
                        pointed.add(key)
                        place[0].point(place[1], key, segment.path)
                else:
                    self._give(place, segment, key, offset, length)

    def took(self, place: Place, key: Id, offset: int, data: bytes | memoryview) -> None:
        """A piece came."""
        with self._guard:
            pulls, entry = self._pulls.get(place), self._entries.get(key)
            if pulls is None or entry is None or not pulls.expects(key, offset, len(data)):
                return
            now = entry.moved = monotonic()
            try:
                self._part(entry).write([data], offset)
            except (OSError, NoRoom) as e:
                self._lose(entry, f"it cannot be brought here: {e}")
                return
            if pulls.took(key, offset, len(data), now):
                self._arrived(entry, place)
            self._ask(place)

    def pointed(self, place: Place, key: Id, path: str) -> None:
        """A node says where an object can be opened."""
        with self._guard:
            pulls, entry = self._pulls.get(place), self._entries.get(key)
            if pulls is None or entry is None or key not in pulls:
                return
            entry.moved = monotonic()
            try:
                segment = Segment.open(path, key, entry.size)
            except OSError:
                # Another machine of the same name, or a container: the pieces will do.
                place[0].want(place[1], pulls.again(entry.moved, entry.moved), True)
                return
            pulls.drop(key)
            self._discard_part(key)
            self._vault.adopt(key, segment)
            self._arrived(entry, place)
            self._ask(place)

    def refused(self, place: Place, keys: list[Id], reason: str) -> None:
        """A node does not have what it was asked for."""
        with self._guard:
            for key in keys:
                entry = self._entries.get(key)
                if entry is not None and entry.holder == place:
                    self._lose(entry, reason)

    def lost(self, place: Place, reason: str) -> None:
        """A node is gone."""
        with self._guard:
            self._leaving.discard(place)
            for entry in self._entries.values():
                entry.at.discard(place)
                entry.asked = [asked for asked in entry.asked if asked[0] != place]
                if entry.holder == place:
                    self._lose(entry, reason or "its manager is gone")
            self._pulls.pop(place, None)

    def holding(self, place: Place, keys: list[Id]) -> None:
        """A node is back, and says what it has."""
        with self._guard:
            gone: list[Id] = []
            for key in keys:
                entry = self._entries.get(key)
                if entry is None:
                    gone.append(key)
                else:
                    entry.at.add(place)
                    if entry.holder == place:
                        entry.lost = ""
            if gone:
                place[0].free([place[1]], gone)
            pulls = self._pulls.get(place)
            if pulls is not None:
                self._ask(place, monotonic())

    def leaving(self, place: Place) -> None:
        """A node wants to end: what is only there is fetched, and after that it may."""
        with self._guard:
            self._leaving.add(place)
            for entry in self._entries.values():
                if entry.holder == place and not entry.lost:
                    self._fetch(entry)

    # ------------------------------------------------------------------------------------- inside, with the lock held

    def _enter(self, entry: Entry) -> Stored:
        stored = Stored(self, entry)
        entry.ref = _Ref(stored, self._dropped)
        entry.ref.key = entry.key
        self._entries[entry.key] = entry
        return stored

    def _dropped(self, reference: weakref.ref[Stored]) -> None:
        """The last reference is gone. This may run anywhere, even in a thread that holds the lock."""
        assert isinstance(reference, _Ref)
        self._dead.append(reference)
        self._guard.settle()

    def _bury(self) -> None:
        while self._dead:
            reference = self._dead.popleft()
            entry = self._entries.get(reference.key)
            if entry is not None and entry.ref is reference:
                self._remove(entry)

    def _living(self, key: Id) -> Stored | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        stored = entry.ref()
        if stored is None:
            # It has died just now, and its note has not arrived.
            self._remove(entry)
        return stored

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.key]
        self._discard_part(entry.key)
        self._vault.free(entry.key)
        for pulls in self._pulls.values():
            pulls.drop(entry.key)
        nodes: dict[Link, list[str]] = {}
        for link, node in entry.at:
            nodes.setdefault(link, []).append(node)
        for link, names in nodes.items():
            link.free(names, [entry.key])

    def _fetch(self, entry: Entry) -> None:
        """Begin to fetch an object that is elsewhere."""
        place = entry.holder
        assert place is not None
        pulls = self._pulls.get(place)
        if pulls is None:
            pulls = self._pulls[place] = Pulls()
        if entry.key not in pulls:
            entry.moved = monotonic()
            pulls.begin(entry.key, entry.size, entry.moved)
            self._ask(place)

    def _ask(self, place: Place, since: float | None = None) -> None:
        """Ask for the next pieces, and again for those of objects of which nothing has come since then."""
        pulls = self._pulls.get(place)
        if pulls is not None:
            asks = pulls.asks()
            if since is not None:
                asks += pulls.again(since, monotonic())
            if asks:
                place[0].want(place[1], asks, False)

    def _whole(self, key: Id) -> Segment | None:
        """The memory of an object that is here."""
        return None if key in self._arriving else self._vault.get(key)

    def _part(self, entry: Entry) -> Segment:
        """The memory of an object that is on its way here."""
        key = entry.key
        segment = self._vault.get(key)
        if segment is None:
            segment = self._vault.create(key, entry.size, original=True)
            self._vault.pin(key)
            self._arriving.add(key)
        return segment

    def _discard_part(self, key: Id) -> None:
        if key in self._arriving:
            self._arriving.discard(key)
            self._vault.free(key)
            self._vault.unpin(key)

    def _arrived(self, entry: Entry, place: Place) -> None:
        """All of an object is here."""
        if entry.key in self._arriving:
            self._arriving.discard(entry.key)
            self._vault.unpin(entry.key)
        entry.holder = None
        entry.lost = ""
        self._tell(entry)
        segment = self._vault.get(entry.key)
        assert segment is not None
        asked, entry.asked = entry.asked, []
        for asker, offset, length in asked:
            self._give(asker, segment, entry.key, offset, length)
        if place in self._leaving:
            entry.at.discard(place)
            place[0].free([place[1]], [entry.key])

    def _give(self, place: Place, segment: Segment, key: Id, offset: int, length: int) -> None:
        try:
            data = segment.view(offset, length)
        except OSError as e:
            place[0].refuse(place[1], [key], f"it cannot be read: {e.strerror or e}")
            return
        place[0].give(place[1], key, offset, data)

    def _lose(self, entry: Entry, reason: str) -> None:
        """An object cannot be had. Should its node come back with it, it can."""
        entry.lost = reason
        self._discard_part(entry.key)
        for pulls in self._pulls.values():
            pulls.drop(entry.key)
        self._tell(entry)
        asked, entry.asked = entry.asked, []
        for link, node in {place for place, _, _ in asked}:
            link.refuse(node, [entry.key], str(entry.error()))

    def _tell(self, entry: Entry) -> None:
        changed, entry.changed = entry.changed, None
        if changed is not None:
            changed.set()

    def in_child(self) -> None:
        """After a fork: what is here can be read here, the nodes are the parent's to talk to."""
        self._guard = _Guard(self)
        self._links = []
        self._pulls = {}
        self._leaving = set()
        for entry in list(self._entries.values()):
            entry.at = set()
            entry.asked = []
            if entry.holder is not None:
                entry.lost = "it belongs to the process that this one was forked from"


HOME = Home()
"""The process's own: executors of several runs may use one object."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HOME.in_child)
