"""One SSH connection, through jump hosts if need be: a thin layer over paramiko in which everything has a deadline.

paramiko itself waits for ever in places, for the answer to a global request for one.  A watchdog closes the connection
when an operation's time is over, which ends every wait on it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flowlib.errors import HostUnusable
from flowlib.ssh import host_keys, scripts
from flowlib.ssh.login import authenticate, proxy_by
from flowlib.ssh.problems import Problem, explain, problem
from flowlib.ssh.targets import Target
from flowlib.ssh.tunnel import Tunnel, end_channel

if TYPE_CHECKING:
    import paramiko

KEEP_ALIVE = 10
"""Seconds between signs of life, so that firewalls keep the connection and a dead one is noticed."""
DEAD_AFTER = 20
"""Seconds without acknowledgement after which the operating system gives a connection up."""
AT_ONCE = 6
"""Log-ins at a time that begin at the same machine: with more, SSH servers refuse some (MaxStartups)."""
_CHUNK = 64 * 1024
_gates: dict[tuple[str, int], threading.BoundedSemaphore] = {}
_gates_lock = threading.Lock()


class Done(NamedTuple):
    """What became of a command.

    Attributes:
        code: Exit code; -1 if a signal ended it.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: bytes
    err: bytes


class Connection:
    """A connection to a host.

    Args:
        route: Jump hosts in order, the host last.
        timeout: Seconds for each machine on the way to answer, and again to log in.

    All methods raise HostUnusable; ``kind`` tells what is wrong.
    """

    def __init__(self, route: Sequence[Target], timeout: float) -> None:
        self._route = route
        self._timeout = timeout
        self._transports: list[paramiko.Transport] = []
        self.host = route[-1].name

    def open(self) -> None:
        """Connect and log in.

        Raises:
            HostUnusable: It could not be done.
            OptionalModuleMissing: paramiko is not installed.
        """
        host_keys.load_paramiko()
        first = self._route[0]
        with _gates_lock:
            gate = _gates.setdefault((first.host, first.port), threading.BoundedSemaphore(AT_ONCE))
        # Hosts that never answer give way after their time, so this wait has an end; go on without a turn all the same.
        turn = gate.acquire(timeout=10 * self._timeout)
        try:
            self._log_in_everywhere()
        finally:
            if turn:
                gate.release()

    def _log_in_everywhere(self) -> None:
        try:
            for target in self._route:
                self._transports.append(self._log_in(target))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it, and what is carried through it. May be called by any thread at any time."""
        with contextlib.suppress(IndexError):
            while True:
                self._transports.pop().close()

    @property
    def active(self) -> bool:
        """Whether it was there when last looked; see ``ping``."""
        return bool(self._transports) and self._transports[-1].is_active()

    # ----------------------------------------------------------------------------------------------------- operations

    def ping(self, timeout: float) -> bool:
        """Whether the host's server answers, all the way."""
        try:
            with self._deadline(timeout):
                try:
                    self._transport().open_session(timeout=timeout).close()
                except host_keys.load_paramiko().ChannelException:
                    return True  # it will have no more sessions; but that is an answer
        except HostUnusable:
            return False
        return True

    def run(self, command: str, given: bytes = b"", timeout: float = 30) -> Done:
        """Run a command and wait for its end.

        Args:
            command: For the account's shell, whichever that is: a plain program with plain words.
            given: Its standard input.
            timeout: Seconds.
        """
        end = time.monotonic() + timeout
        with self._deadline(timeout + self._timeout):
            channel = self._start(command, timeout)
            try:
                channel.settimeout(max(0.01, end - time.monotonic()))
                self._give(channel, given)
                out = _read(channel.recv, channel, end)
                err = _read(channel.recv_stderr, channel, end)
                if not channel.status_event.wait(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                return Done(channel.recv_exit_status(), out, err)
            except TimeoutError:
                what = f"the command {command!r} did not end within {timeout:g} s"
                raise problem(
                    self.host, Problem.LOST, what, "the host is overloaded, or its file system hangs"
                ) from None
            finally:
                end_channel(channel)

    def follow(self, command: str, given: bytes, timeout: float, keep_open: bool = False) -> paramiko.Channel:
        """Start a command and leave it running.

        Args:
            command: As for ``run``.
            given: As for ``run``.
            timeout: Seconds for its start.
            keep_open: Whether its standard input ends with the channel only, not after ``given``.

        Returns:
            A channel for its standard streams, to be closed by the caller.
        """
        with self._deadline(timeout):
            channel = self._start(command, timeout)
            channel.settimeout(timeout)
            channel.sendall(given)
            if not keep_open:
                channel.shutdown_write()
            channel.settimeout(None)
            return channel

    def first_answers(self, channel: paramiko.Channel, name: str, timeout: float) -> dict[str, str]:
        """What a command from ``follow`` answers, until an answer of that name, its end or the deadline."""
        output, end = b"", time.monotonic() + timeout
        found: dict[str, str] = {}
        try:
            while name not in found:
                channel.settimeout(max(0.01, end - time.monotonic()))
                data = channel.recv(4096)
                if not data:
                    break
                output += data
                # A line that is not whole yet is none.
                found = scripts.answers(output[: output.rfind(b"\n") + 1])
        except (OSError, EOFError):
            return found
        channel.settimeout(None)
        return found

    def put(self, directory: str, files: Mapping[str, bytes], timeout: float, mode: int = 0o600) -> None:
        """Write new files, by default such that only the account can read them.

        Args:
            directory: Exists.
            files: Contents by plain name.
            timeout: Seconds.
            mode: Their permissions.
        """
        with self._sftp(timeout, f"writing to {directory}") as sftp:
            for name, content in files.items():
                path = f"{directory}/{name}"
                with sftp.open(path, "wx") as file:
                    # Before there is something to read.
                    sftp.chmod(path, mode)
                    file.write(content)

    def tail(self, path: str, most: int, timeout: float) -> bytes | None:
        """The end of a file; None if it is not there."""
        with self._sftp(timeout, f"reading {path}") as sftp:
            try:
                with sftp.open(path, "rb") as file:
                    size = file.stat().st_size or 0
                    file.seek(max(0, size - most))
                    return file.read(most)
            except FileNotFoundError:
                return None

    def forward(self, port: int, home: tuple[str, int]) -> int:
        """Have a port of the host's loopback lead to this machine.

        Args:
            port: Which; 0 for any.
            home: Where it leads.

        Returns:
            The port.
        """
        with self._deadline(self._timeout):
            try:
                return self._transport().request_port_forward("127.0.0.1", port, Tunnel(home, self.host))
            except host_keys.load_paramiko().SSHException as e:
                if not self.active:
                    raise
                which = f"port {port}" if port else "a port"
                what = f"its SSH server does not forward {which} of its loopback back here ({e})"
                remedy = (
                    "it needs AllowTcpForwarding yes; or give tunnel=False where it can reach this machine directly"
                )
                if port:
                    remedy = "it may be in use; it is tried again by itself"
                raise problem(self.host, Problem.FORWARDING, what, remedy) from e

    # -------------------------------------------------------------------------------------------------------- helpers

    def _transport(self) -> paramiko.Transport:
        if not self._transports:
            raise problem(self.host, Problem.LOST, "there is no connection", "it is tried again by itself")
        return self._transports[-1]

    def _give(self, channel: paramiko.Channel, given: bytes) -> None:
        """Send a command its input; one that ends without reading it has not failed for that."""
        try:
            channel.sendall(given)
            channel.shutdown_write()
        except OSError as e:
            if isinstance(e, TimeoutError) or not self.active:
                raise

    def _start(self, command: str, timeout: float) -> paramiko.Channel:
        channel = self._transport().open_session(timeout=min(timeout, self._timeout))
        channel.settimeout(min(timeout, self._timeout))
        channel.exec_command(command)
        return channel

    @contextlib.contextmanager
    def _sftp(self, timeout: float, doing: str) -> Iterator[paramiko.SFTPClient]:
        paramiko = host_keys.load_paramiko()
        with self._deadline(timeout):
            try:
                sftp = paramiko.SFTPClient.from_transport(self._transport())
            except (paramiko.SSHException, EOFError) as e:
                if not self.active:
                    raise
                remedy = "its sshd_config needs a line like: Subsystem sftp internal-sftp"
                raise problem(self.host, Problem.FILES, f"it offers no sftp ({e or 'closed'})", remedy) from e
            try:
                sftp.get_channel().settimeout(timeout)
                yield sftp
            except (PermissionError, FileNotFoundError, FileExistsError) as e:
                raise problem(
                    self.host, Problem.FILES, f"{doing} failed: {e}", "give private_dir= another place"
                ) from e
            except OSError as e:
                if e.errno is None and self.active:
                    # The protocol of old servers has one word for a full disk and for everything else.
                    remedy = "make room there (df, quota), or give private_dir= another place"
                    raise problem(self.host, Problem.DISK, f"{doing} failed: {e}", remedy) from e
                raise
            finally:
                sftp.close()

    @contextlib.contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        """Say what errors mean; after that many seconds end the connection and with it what waits for it."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self.close()

        watchdog = threading.Timer(seconds + 1, end)
        watchdog.name, watchdog.daemon = "flowlib-ssh-deadline", True
        watchdog.start()
        try:
            yield
        except HostUnusable:
            raise
        except (OSError, EOFError, host_keys.load_paramiko().SSHException) as e:
            if late.is_set() or isinstance(e, TimeoutError):
                what = f"it did not answer within {seconds:g} s"
                raise problem(self.host, Problem.LOST, what, "the network or the host is slow or gone") from e
            what = f"the connection was lost ({e or type(e).__name__})"
            raise problem(
                self.host, Problem.LOST, what, "the host or the network went down, or its sshd was ended"
            ) from e
        finally:
            watchdog.cancel()

    # --------------------------------------------------------------------------------------------------------- log in

    def _log_in(self, target: Target) -> paramiko.Transport:
        """A connection to the next machine on the way, logged in."""
        library = host_keys.load_paramiko()
        sock: Any = None
        transport: Any = None
        watchdog: threading.Timer | None = None
        try:
            sock = self._socket(target)
            transport = library.Transport(sock)
            # Each waits on its own as well; this is for what does not.
            watchdog = threading.Timer(3 * self._timeout, transport.close)
            watchdog.daemon = True
            watchdog.start()
            transport.name = f"flowlib-ssh-{target.name}"
            transport.daemon = True
            transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = self._timeout
            transport.channel_timeout = self._timeout
            known = host_keys.known_keys(target).lookup(target.key_name)
            if known:
                options = transport.get_security_options()
                kinds = [kind for kind in options.key_types if _plain(kind) in known]
                options.key_types = (*kinds, *(kind for kind in options.key_types if kind not in kinds))
            # Longer than the waits within it, whose errors say more.
            transport.start_client(timeout=2 * self._timeout + 1)
            if not transport.initial_kex_done:
                raise TimeoutError
            host_keys.check(transport, target, self.host)
            authenticate(transport, target)
            transport.set_keepalive(KEEP_ALIVE)
            logged_in: paramiko.Transport = transport
            return logged_in
        except (OSError, EOFError, library.SSHException, HostUnusable) as e:
            if transport is not None:
                transport.close()
            elif sock is not None:
                sock.close()
            raise explain(e, target, self.host) from e
        finally:
            if watchdog is not None:
                watchdog.cancel()

    def _socket(self, target: Target) -> Any:
        if self._transports:
            place = (target.host, target.port)
            return self._transports[-1].open_channel("direct-tcpip", place, ("127.0.0.1", 0), timeout=self._timeout)
        if target.proxy_command:
            return proxy_by(target.proxy_command)
        sock = socket.create_connection((target.host, target.port), timeout=self._timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER * 1000)
        return sock


def _read(receive: Any, channel: paramiko.Channel, end: float) -> bytes:
    """All of a stream until its end; TimeoutError at the deadline."""
    parts: list[bytes] = []
    while True:
        channel.settimeout(max(0.01, end - time.monotonic()))
        data: bytes = receive(_CHUNK)
        if not data:
            return b"".join(parts)
        parts.append(data)


def _plain(kind: str) -> str:
    """The kind of key by which a signature algorithm is listed among known hosts."""
    return "ssh-rsa" if kind.startswith("rsa-sha2-") else kind
