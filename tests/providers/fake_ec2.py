"""What speaks as EC2 does, for tests: moto's real server, and a proxy in front that adds faults and runs instances.

moto keeps what it is told and runs nothing, so the proxy runs each instance's start-up script as a local process.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from flowlib.providers.ec2_client import Ec2Client

MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""
ERROR = (
    "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors><RequestID>1</RequestID></Response>"
)


class Moto:
    """moto's server in a process of its own; ends with this one.

    Attributes:
        address: Its URL.
        admin: Somebody else's connection to it.
    """

    def __init__(self) -> None:
        environment = {**os.environ, "MOTO_ENABLE_AMI_VALIDATION": "true", "PYTHONWARNINGS": "ignore"}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, "-c", MOTO], env=environment, text=True, **pipes)
        assert self.process.stdout is not None
        port = self.process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"moto's server did not start (exit code {self.process.wait(10)}); is flask installed?")
        self.address = f"http://127.0.0.1:{port}"
        self.admin = Ec2Client("us-east-2", None, None, self.address, 10)

    def reset(self) -> None:
        """Forget everything."""
        request = urllib.request.Request(f"{self.address}/moto-api/reset", method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def close(self) -> None:
        """End it."""
        self.admin.close()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.terminate()
        self.process.wait(10)


class FakeEc2:
    """The proxy.

    Args:
        moto: Where requests go.
        environment: Variables that instances have.

    Attributes:
        actions: All requests so far.
        replace: Texts to be replaced in answers.
        run_scripts: Whether instances run their scripts.
    """

    def __init__(self, moto: Moto, environment: Mapping[str, str]) -> None:
        self.moto = moto
        self.actions: list[str] = []
        self.scripts: dict[str, str] = {}
        self.replace: dict[str, str] = {}
        self.run_scripts = False
        self._environment = dict(environment)
        self._faults: list[tuple[str, str, str, int, bool]] = []
        self._machines: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._directory = tempfile.mkdtemp(prefix="fake-ec2-")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                outer.serve(self)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def address(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def fail(self, action: str, code: str, status: int = 400, message: str = "words") -> None:
        """Refuse the next request of a kind."""
        self._faults.append((action, code, message, status, False))

    def drop(self, action: str, *, done: bool) -> None:
        """Do not answer the next request of a kind, whether or not it is ``done``."""
        self._faults.append((action, "", "", 0, done))

    def kill(self, instance: str) -> None:
        """Switch a machine off, whatever runs there."""
        with self._lock:
            process = self._machines.pop(instance, None)
        if process is not None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait(10)

    def close(self) -> None:
        """End it, and all instances."""
        self._http.shutdown()
        self._thread.join(10)
        self._http.server_close()
        for instance in list(self._machines):
            self.kill(instance)
        shutil.rmtree(self._directory, ignore_errors=True)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        query = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        action = query.get("Action", "")
        self.actions.append(action)
        fault = next((fault for fault in self._faults if fault[0] == action), None)
        if fault is not None:
            self._faults.remove(fault)
            if fault[1]:
                self._answer(handler, fault[3], ERROR.format(fault[1], fault[2]).encode())
                return
            if not fault[4]:
                handler.close_connection = True
                return
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in ("host", "content-length")}
        request = urllib.request.Request(self.moto.address + handler.path, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as e:
            with e:
                status, content = e.code, e.read()
        for old, new in self.replace.items():
            content = content.replace(old.encode(), new.encode())
        ids = re.findall(r"<instanceId>(i-[0-9a-f]+)</instanceId>", content.decode())
        if action == "RunInstances" and ids:
            self._boot(ids[0], base64.b64decode(query.get("UserData", "")).decode())
        if action == "TerminateInstances":
            for instance in ids:
                self.kill(instance)
        if fault is not None:
            handler.close_connection = True
            return
        self._answer(handler, status, content)

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "text/xml")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _boot(self, instance: str, script: str) -> None:
        self.scripts[instance] = script
        if not self.run_scripts:
            return
        home = Path(self._directory) / instance
        (home / "bin").mkdir(parents=True)
        shutdown = home / "bin" / "shutdown"
        shutdown.write_text("#!/bin/sh\nexit 0\n")
        shutdown.chmod(0o755)
        environment = {
            "PATH": f"{home}/bin:{Path(sys.executable).parent}:/usr/bin:/bin",
            "TMPDIR": str(home),
            "INSTANCE": instance,
            **self._environment,
        }
        with open(home / "console", "wb") as console:
            self._machines[instance] = subprocess.Popen(
                ["bash", "-c", script],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def console(self, instance: str) -> str:
        """What a machine wrote."""
        return (Path(self._directory) / instance / "console").read_text()
