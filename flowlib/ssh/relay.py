"""A relay for login nodes: compute nodes connect to it, it connects to the tunnel's port on the loopback.

The program below is sent to the login node's Python, whichever version of 3 that is: it uses the standard library only.
It has one thread, and ends when its standard input does, which is when the SSH connection ends.
"""

from __future__ import annotations

STARTER = "import sys; exec(sys.stdin.buffer.readline().decode('unicode_escape'))"
"""What Python is started with; it reads the program, then the program reads on until the end of the input."""

_PROGRAM = """
import os, selectors, socket, sys
TUNNEL, PORT, MARK = %(tunnel)d, %(port)d, %(mark)r
MOST = 1 << 20

def say(name, value):
    sys.stdout.write("%%s%%s=%%s\\n" %% (MARK, name, value)); sys.stdout.flush()

def addresses():
    found = set()
    for name in (socket.gethostname(), socket.getfqdn()):
        try:
            found.update(a[4][0] for a in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM))
        except OSError:
            pass
    try:
        import fcntl, struct
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for _, name in socket.if_nameindex():
                try:
                    found.add(socket.inet_ntoa(fcntl.ioctl(s, 0x8915, struct.pack("256s", name.encode()[:15]))[20:24]))
                except OSError:
                    pass
    except (ImportError, OSError):
        pass
    outside = sorted(a for a in found if not a.startswith("127."))
    return outside + sorted(a for a in found if a.startswith("127.")) or ["127.0.0.1"]

selector = selectors.DefaultSelector()

class Side:
    def __init__(self, sock):
        self.sock, self.out, self.other, self.watched = sock, bytearray(), None, 0
    def watch(self):
        wanted = selectors.EVENT_READ if len(self.other.out) < MOST else 0
        wanted |= selectors.EVENT_WRITE if self.out else 0
        if wanted == self.watched:
            return
        if not self.watched:
            selector.register(self.sock, wanted, self)
        elif not wanted:
            selector.unregister(self.sock)
        else:
            selector.modify(self.sock, wanted, self)
        self.watched = wanted
    def end(self):
        for side in (self, self.other):
            if side.watched:
                selector.unregister(side.sock)
                side.watched = 0
            side.sock.close()
    def ready(self, events):
        try:
            if events & selectors.EVENT_WRITE and self.out:
                del self.out[: self.sock.send(memoryview(self.out)[:65536].tobytes())]
            if events & selectors.EVENT_READ:
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError
                self.other.out += data
                del self.other.out[: self.other.sock.send(bytes(self.other.out[:65536]))]
        except BlockingIOError:
            pass
        except (OSError, EOFError):
            self.end()
            return
        self.watch(); self.other.watch()

def accept():
    near, _ = listener.accept()
    try:
        far = socket.create_connection(("127.0.0.1", TUNNEL), 10)
    except OSError:
        near.close()
        return
    a, b = Side(near), Side(far)
    a.other, b.other = b, a
    for side in (a, b):
        side.sock.setblocking(False)
        side.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    a.watch(); b.watch()

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    listener.bind(("", PORT))
except OSError as e:
    say("error", e); sys.exit(1)
listener.listen(256)
selector.register(listener, selectors.EVENT_READ, None)
selector.register(sys.stdin, selectors.EVENT_READ, sys.stdin)
say("addresses", " ".join(addresses()))
say("relay", listener.getsockname()[1])
while True:
    for key, events in selector.select():
        if key.data is None:
            accept()
        elif key.data is sys.stdin:
            if not os.read(0, 4096):
                os._exit(0)
        elif key.data.watched:
            key.data.ready(events)
"""


def program(tunnel: int, port: int) -> bytes:
    """The program as one line for ``STARTER``.

    Args:
        tunnel: Port of the loopback to which it leads.
        port: Port to listen on; 0 for any.
    """
    from flowlib.ssh.scripts import MARK

    text = _PROGRAM % {"tunnel": tunnel, "port": port, "mark": MARK}
    return text.encode("unicode_escape").replace(b"\n", b"\\n") + b"\n"
