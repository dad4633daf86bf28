"""A pretended Kubernetes cluster: an API server on the loopback address whose pods are processes of this machine.

It is for tests of whatever makes pods through the real client: the requests, the refusals, the lists, the watches and
the states are those of a cluster, and a pod's command really runs.  What it knows is ``kube_state``'s, how pods run
``kube_pods``'s, how it is spoken to ``kube_http``'s; here they are put together, with the faults that can be ordered.

Differences from a cluster: images are only names; the commands see this machine's files; the directories that a pod
mounts are elsewhere, so their paths are replaced in commands, arguments and variables; sizes are checked, not enforced.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowlib.testing.kube_http import Server
from flowlib.testing.kube_pods import PodProcess
from flowlib.testing.kube_state import ClusterState, Refused

Json = dict[str, Any]

TOKEN = "a-token-for-tests"
END = 5.0
"""Seconds that pods have to be gone when the cluster ends."""


@dataclass
class Fault:
    """Something that goes wrong with requests.

    Attributes:
        method: "POST", "GET", "DELETE" ...
        kind: "pods", "secrets", "pods/log".
        times: How often.
        refusal: What is answered; None for no answer.
        done: Whether what was asked is done all the same.
    """

    method: str
    kind: str
    times: int
    refusal: Refused | None
    done: bool


class FakeKubernetes:
    """A cluster of pretence; a context manager.

    Args:
        namespaces: Those that there are.
        images: Images that can be pulled; None for all.
        pod_quota: Pods that each namespace may have; None for any number.
        environment: Variables that pods have, as if from their images.

    Attributes:
        state: What it knows.
        images: As given; may be changed.
        unschedulable: Why no pod finds a node; None if they do. Set it by ``hold_pods``.
        requests: All requests so far: method and path.
        directory: Where pods have their files; removed at the end.

    Example:
        >>> with FakeKubernetes() as cluster:
        ...     made = cluster.create_pod("one", ["true"])
        ...     cluster.wait_for_phase("one", "Succeeded")
        'Succeeded'
    """

    def __init__(
        self,
        namespaces: tuple[str, ...] = ("default",),
        images: set[str] | None = None,
        pod_quota: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state = ClusterState(set(namespaces), pod_quota)
        self.images = images
        self.environment = dict(environment or {})
        self.unschedulable: str | None = None
        self.requests: list[tuple[str, str]] = []
        self.changed = threading.Condition(threading.RLock())
        self.directory = ""
        self.ending = False
        self._faults: list[Fault] = []
        self._pods: dict[str, PodProcess] = {}
        self._all: list[PodProcess] = []
        self._server: Server | None = None

    def __enter__(self) -> FakeKubernetes:  # noqa: PYI034
        self.directory = tempfile.mkdtemp(prefix="fake-kubernetes-")  # 0700
        self._server = Server(self, TOKEN)
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self.changed:
            self.ending = True
            for pod in self._pods.values():
                pod.end(0)
            self.changed.notify_all()
        deadline = time.monotonic() + END
        for pod in self._all:
            pod.thread.join(max(0.0, deadline - time.monotonic()))
        if self._server is not None:
            self._server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---------------------------------------------------------------------------------------------- for those who test

    @property
    def address(self) -> str:
        """Its URL."""
        assert self._server is not None, "use it in a with statement"
        return self._server.address

    def kube_config(self, path: str | os.PathLike[str], token: str = TOKEN) -> str:
        """Write a configuration for kubectl and the client; returns its path."""
        text = f"""apiVersion: v1
kind: Config
current-context: fake
clusters: [{{name: fake, cluster: {{server: "{self.address}"}}}}]
users: [{{name: fake, user: {{token: "{token}"}}}}]
contexts: [{{name: fake, context: {{cluster: fake, user: fake}}}}]
"""
        Path(path).write_text(text, encoding="utf-8")
        return str(path)

    def create_pod(self, name: str, command: list[str], namespace: str = "default", **metadata: Any) -> Json:
        """Make a pod, as somebody else who uses the cluster."""
        spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "any", "command": command}]}
        return self.create("pods", namespace, {"metadata": {"name": name, **metadata}, "spec": spec})

    def pods(self, namespace: str = "default") -> list[str]:
        """Names of the pods that there are."""
        with self.changed:
            return [pod["metadata"]["name"] for pod in self.state.listed("pods", namespace)]

    def secrets(self, namespace: str = "default") -> list[str]:
        """Names of the secrets that there are."""
        with self.changed:
            return [secret["metadata"]["name"] for secret in self.state.listed("secrets", namespace)]

    def pid(self, name: str) -> int | None:
        """First process of a pod; None before it runs."""
        with self.changed:
            return self._process(name).pid

    def wait_for_phase(self, name: str, phase: str, timeout: float = 20, namespace: str = "default") -> str:
        """Wait until a pod is in a phase, or gone ("").

        Raises:
            TimeoutError: That did not happen.
        """
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                pod = self.state.objects.get(("pods", namespace, name))
                found = "" if pod is None else str(pod["status"]["phase"])
                if found in ("", phase):
                    return found
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"pod {name} is still {found}, not {phase}: {pod}")
                self.changed.wait(left)

    def hold_pods(self, message: str | None = "0/3 nodes are available: 3 Insufficient cpu.") -> None:
        """Let no pod find a node from now on; None: let them again."""
        with self.changed:
            self.unschedulable = message
            self.changed.notify_all()

    def allow_image(self, image: str) -> None:
        """Let an image be pulled from now on."""
        with self.changed:
            if self.images is not None:
                self.images.add(image)
            self.changed.notify_all()

    def evict(self, name: str, message: str = "The node was low on resource: memory.") -> None:
        """End a pod as a node does that runs out of something."""
        with self.changed:
            self._process(name).end(0, {"reason": "Evicted", "message": message})

    def out_of_memory(self, name: str) -> None:
        """End a pod as the kernel does when it uses more memory than it may."""
        with self.changed:
            self._process(name).end(0, {"containerReason": "OOMKilled"})

    def preempt(self, name: str) -> None:
        """End a pod as the scheduler does for a more important one."""
        reason = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
        condition = {**reason, "message": "default-scheduler: preempting to accommodate a higher priority pod"}
        with self.changed:
            self._process(name).end(0, {"conditions": [condition]})

    def delete_pod(self, name: str, namespace: str = "default", grace: int = 0) -> None:
        """Delete a pod, as somebody else who uses the cluster."""
        self.delete("pods", namespace, name, None, grace)

    def fail(
        self, method: str, kind: str, code: int, message: str = "", *, reason: str = "Unknown", times: int = 1
    ) -> None:
        """Refuse the next requests of a kind.

        Args:
            method: "POST", "GET", "DELETE", "PATCH".
            kind: "pods", "secrets" or "pods/log".
            code: HTTP status code.
            message: What is said.
            reason: The word for programs.
            times: How often.
        """
        self._faults.append(Fault(method, kind, times, Refused(code, reason, message), False))

    def drop(self, method: str, kind: str, *, done: bool, times: int = 1) -> None:
        """Do not answer the next requests of a kind, and close their connections.

        Args:
            method: "POST", "GET", "DELETE", "PATCH".
            kind: "pods", "secrets" or "pods/log".
            done: Whether what they ask for is done.
            times: How often.
        """
        self._faults.append(Fault(method, kind, times, None, done))

    # ----------------------------------------------------------------------------------------------- for its own parts

    def now(self) -> str:
        """The time, as the API writes it."""
        return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def fault(self, method: str, kind: str) -> Fault | None:
        """What goes wrong with this request."""
        with self.changed:
            for fault in self._faults:
                if (fault.method, fault.kind) == (method, kind) and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def create(self, kind: str, namespace: str, manifest: Json) -> Json:
        """Make an object; pods begin to run."""
        with self.changed:
            made = self.state.create(kind, namespace, manifest, self.now())
            if kind == "pods":
                pod = PodProcess(self, made)
                self._pods[made["metadata"]["uid"]] = pod
                self._all.append(pod)
                pod.thread.start()
            self.changed.notify_all()
            return made

    def patch(self, kind: str, namespace: str, name: str, change: Json) -> Json:
        """Change an object."""
        with self.changed:
            found = self.state.patch(kind, namespace, name, change)
            self.changed.notify_all()
            return found

    def delete(self, kind: str, namespace: str, name: str, uid: str | None, grace: int) -> Json:
        """Delete an object; pods end first."""
        with self.changed:
            if kind != "pods":
                found = self.state.read(kind, namespace, name)
                self.state.remove(kind, namespace, name)
                self.changed.notify_all()
                return found
            found = self.state.begin_delete(kind, namespace, name, uid, self.now(), grace)
            pod = self._pods.get(found["metadata"]["uid"])
            if pod is None or found["status"]["phase"] in ("Succeeded", "Failed"):
                self._forget(found)
            else:
                pod.end(grace)
            self.changed.notify_all()
            return found

    def log(self, namespace: str, name: str, lines: int | None, limit: int | None) -> bytes:
        """What a pod wrote."""
        with self.changed:
            found = self.state.read("pods", namespace, name)
            pod = self._pods.get(found["metadata"]["uid"])
            if pod is None or pod.pid is None:
                container = found["spec"]["containers"][0]["name"]
                message = f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating'
                raise Refused(400, "BadRequest", message)
            return pod.log(lines, limit)

    def set_pod_status(self, pod: PodProcess, status: Json) -> None:
        """A pod's node tells its status."""
        with self.changed:
            found = self.state.objects.get(("pods", pod.namespace, pod.name))
            if found is not None and found["metadata"]["uid"] == pod.uid:
                self.state.set_status(pod.namespace, pod.name, status)
                self.changed.notify_all()

    def pod_ended(self, pod: PodProcess, status: Json) -> None:
        """A pod's processes are gone."""
        with self.changed:
            if status:
                self.set_pod_status(pod, status)
            found = self.state.objects.get(("pods", pod.namespace, pod.name))
            if found is not None and found["metadata"]["uid"] == pod.uid and "deletionTimestamp" in found["metadata"]:
                self._forget(found)
            self.changed.notify_all()

    def _forget(self, found: Json) -> None:
        metadata = found["metadata"]
        self.state.remove("pods", metadata["namespace"], metadata["name"])
        pod = self._pods.pop(metadata["uid"], None)
        if pod is not None:
            pod.discard()

    def _process(self, name: str) -> PodProcess:
        for pod in self._pods.values():
            if pod.name == name:
                return pod
        raise KeyError(f"there is no pod {name!r}; there are: {', '.join(p.name for p in self._pods.values())}")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to all of a pod's processes, as some fault within it might."""
        pid = self.pid(name)
        if pid is not None:
            os.killpg(pid, number)
