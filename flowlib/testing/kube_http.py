"""How a pretended cluster is spoken to: what pods, secrets and logs need of the API of Kubernetes, over HTTP."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from flowlib.testing.kube_state import KINDS, Refused

if TYPE_CHECKING:
    from flowlib.testing.kube import FakeKubernetes

Json = dict[str, Any]

_PATH = re.compile(r"/api/v1(?:/namespaces/([^/]+))?/(pods|secrets)(?:/([^/]+))?(?:/(log|status))?")
_WATCH_MOST = 60.0
_IDLE = 30.0
"""Seconds after which a connection without a request is closed."""


class Server:
    """The API server.

    Args:
        cluster: What it speaks for.
        token: What every request must bring.
    """

    def __init__(self, cluster: FakeKubernetes, token: str) -> None:
        class Bound(_Handler):
            pass

        Bound.cluster = cluster
        Bound.token = token
        self._http = _Http(("127.0.0.1", 0), Bound)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="fake-kubernetes", daemon=True
        )

    @property
    def address(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End, with all connections."""
        self._http.shutdown()
        self._thread.join(5)
        self._http.hang_up()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self._connections: set[Any] = set()
        self._guard = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End connections that clients keep open, so that their threads end."""
        import socket

        with self._guard:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the client was faster


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE
    cluster: FakeKubernetes
    token: str

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing; ``FakeKubernetes.requests`` has it all."""

    def do_GET(self) -> None:
        """Read, list or watch."""
        self._serve("GET")

    def do_POST(self) -> None:
        """Create."""
        self._serve("POST")

    def do_PATCH(self) -> None:
        """Change."""
        self._serve("PATCH")

    def do_DELETE(self) -> None:
        """Delete."""
        self._serve("DELETE")

    # ------------------------------------------------------------------------------------------------------------ serve

    def _serve(self, method: str) -> None:
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length) if length else b""
        self.cluster.requests.append((method, self.path))
        try:
            if self.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            if url.path == "/version":
                self._answer(200, {"major": "1", "minor": "30", "gitVersion": "v1.30.0+fake"})
                return
            match = _PATH.fullmatch(url.path)
            if match is None:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            namespace, kind, name, part = match.groups()
            fault = self.cluster.fault(method, f"{kind}/{part}" if part else kind)
            if fault is not None and fault.refusal is not None:
                raise fault.refusal
            if fault is not None and not fault.done:
                self.close_connection = True
                return
            answer = self._do(method, namespace, kind, name, part, query, _json(content))
            if fault is not None:
                self.close_connection = True
                return
        except Refused as e:
            self._answer(e.code, e.body())
            return
        if isinstance(answer, bytes):
            self._send(200, answer, "text/plain")
        elif answer is not None:
            self._answer(201 if method == "POST" else 200, answer)

    def _do(
        self,
        method: str,
        namespace: str | None,
        kind: str,
        name: str | None,
        part: str | None,
        query: dict[str, str],
        body: Json,
    ) -> Json | bytes | None:
        cluster = self.cluster
        if method == "GET" and name is None:
            if query.get("watch", "").lower() in ("1", "t", "true"):
                self._watch(kind, namespace, query)
                return None
            return self._list(kind, namespace, query)
        if namespace is None:
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        if method == "POST" and name is None:
            return cluster.create(kind, namespace, body)
        if method == "DELETE" and name is None:
            return self._delete_many(kind, namespace, query)
        if name is None or (part is not None and (method, part) not in (("GET", "log"), ("GET", "status"))):
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        if method == "GET":
            if part == "log":
                return cluster.log(namespace, name, _number(query, "tailLines"), _number(query, "limitBytes"))
            with cluster.changed:
                return cluster.state.read(kind, namespace, name)
        if method == "PATCH":
            if "merge-patch" not in (self.headers.get("Content-Type") or ""):
                raise Refused(415, "UnsupportedMediaType", "this server takes merge patches only")
            return cluster.patch(kind, namespace, name, body)
        options = {**query, **body}
        grace = int(options.get("gracePeriodSeconds") or 0) if "gracePeriodSeconds" in options else 30
        uid = (body.get("preconditions") or {}).get("uid")
        return cluster.delete(kind, namespace, name, uid, grace)

    def _list(self, kind: str, namespace: str | None, query: dict[str, str]) -> Json:
        with self.cluster.changed:
            state = self.cluster.state
            items = state.listed(kind, namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))
            metadata = {"resourceVersion": str(state.version)}
        return {"kind": f"{KINDS[kind]}List", "apiVersion": "v1", "metadata": metadata, "items": items}

    def _delete_many(self, kind: str, namespace: str, query: dict[str, str]) -> Json:
        found = self._list(kind, namespace, query)
        grace = int(query.get("gracePeriodSeconds", 30))
        for item in found["items"]:
            self.cluster.delete(kind, namespace, item["metadata"]["name"], item["metadata"]["uid"], grace)
        return found

    def _watch(self, kind: str, namespace: str | None, query: dict[str, str]) -> None:
        """Tell changes as they happen, one JSON document a line."""
        from flowlib.testing.kube_state import selector

        cluster = self.cluster
        fits = selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        deadline = time.monotonic() + min(float(query.get("timeoutSeconds", _WATCH_MOST)), _WATCH_MOST)
        with cluster.changed:
            since = int(query.get("resourceVersion") or cluster.state.version)
            cluster.state.changes(kind, namespace, since)  # refuses what is too old
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                with cluster.changed:
                    found = cluster.state.changes(kind, namespace, since)
                    left = deadline - time.monotonic()
                    if not found:
                        if left <= 0 or cluster.ending:
                            break
                        cluster.changed.wait(left)
                        continue
                since = found[-1][0]
                for _, change, item in found:
                    if fits(item):
                        self._chunk(json.dumps({"type": change, "object": item}).encode() + b"\n")
            self._chunk(b"")
        except OSError:
            self.close_connection = True  # the client has seen enough

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _answer(self, code: int, body: Json) -> None:
        self._send(code, json.dumps(body).encode(), "application/json")

    def _send(self, code: int, content: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _json(content: bytes) -> Json:
    if not content:
        return {}
    try:
        found = json.loads(content)
    except ValueError:
        raise Refused(400, "BadRequest", "the object provided is unrecognized: it is no JSON") from None
    if not isinstance(found, dict):
        raise Refused(400, "BadRequest", "the object provided is unrecognized: it is no object")
    return found


def _number(query: dict[str, str], name: str) -> int | None:
    return int(query[name]) if name in query else None
