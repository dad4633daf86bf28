"""Runs the pods of a pretended cluster as processes of this machine.

Each pod has a thread that plays the part of its node: it waits until the pod may start, prepares its directory, runs
the command, and tells how it ended.  A pod's processes are one process group, which is killed with it.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlib.testing.kube import FakeKubernetes

Json = dict[str, Any]

STARTED, KILLED = "started", "killed"


class PodProcess:
    """A pod that is being run.

    Args:
        cluster: Where it is.
        pod: What it is.
    """

    def __init__(self, cluster: FakeKubernetes, pod: Json) -> None:
        self.namespace: str = pod["metadata"]["namespace"]
        self.name: str = pod["metadata"]["name"]
        self.uid: str = pod["metadata"]["uid"]
        self._cluster = cluster
        self._pod = pod
        self._spec: Json = pod["spec"]["containers"][0]
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Json = {}
        self._told_to_end = False
        self._killer: threading.Timer | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="pod-", dir=cluster.directory))  # 0700
        self.thread = threading.Thread(target=self._run, name=f"fake-pod-{self.name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """Its first process, once there is one."""
        return None if self._process is None else self._process.pid

    def log(self, lines: int | None, limit: int | None) -> bytes:
        """What it wrote."""
        try:
            text = (self.directory / "log").read_bytes()
        except FileNotFoundError:
            return b""
        if lines is not None:
            text = b"".join(text.splitlines(keepends=True)[-lines:]) if lines else b""
        return text if limit is None else text[:limit]

    def end(self, grace: float, status: Json | None = None) -> None:
        """End it: SIGTERM, and SIGKILL after ``grace`` seconds. The cluster's lock must be held.

        Args:
            grace: Seconds; 0 for SIGKILL at once.
            status: What its status says afterwards; None for what its exit code says.
        """
        self._end = status or self._end
        self._told_to_end = True
        self._cluster.changed.notify_all()
        if self._process is None or self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM if grace else signal.SIGKILL)
        if grace and self._killer is None:
            killer = threading.Timer(grace, self._signal, [signal.SIGKILL])
            killer.daemon = True
            killer.start()
            self._killer = killer

    def _signal(self, number: int) -> None:
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass  # it ended by itself just now

    def _run(self) -> None:
        code: int | None = None
        try:
            if self._wait_to_start():
                code = self._run_command()
        finally:
            with self._cluster.changed:
                killer, self._killer = self._killer, None
            if killer is not None:
                killer.cancel()
                killer.join()
            self._cluster.pod_ended(self, self._final_status(code))

    def discard(self) -> None:
        """Remove its files."""
        shutil.rmtree(self.directory, ignore_errors=True)

    # ------------------------------------------------------------------------------------------------- before it runs

    def _wait_to_start(self) -> bool:
        """Wait for room, image and secrets, telling what it waits for; False if it was told to end."""
        cluster, said = self._cluster, None
        with cluster.changed:
            while not self._told_to_end:
                problem = self._obstacle()
                if problem is None:
                    return True
                if problem != said:
                    said = problem
                    cluster.set_pod_status(self, problem)
                cluster.changed.wait(1.0)
        return False

    def _obstacle(self) -> Json | None:
        cluster, image = self._cluster, str(self._spec["image"])
        if cluster.unschedulable is not None:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            return {"conditions": [{**condition, "message": cluster.unschedulable}]}
        scheduled: Json = {"conditions": [{"type": "PodScheduled", "status": "True"}]}
        if cluster.images is not None and image not in cluster.images:
            refused = f'Back-off pulling image "{image}": ErrImagePull: {image}: not found'
            return {**scheduled, **self._waiting("ImagePullBackOff", refused)}
        for name in self._secret_names():
            if ("secrets", self.namespace, name) not in cluster.state.objects:
                return {**scheduled, **self._waiting("ContainerCreating", "")}
        return None

    def _waiting(self, reason: str, message: str) -> Json:
        waiting = {"reason": reason, **({"message": message} if message else {})}
        return {"containerStatuses": [self._container({"waiting": waiting})]}

    def _container(self, state: Json) -> Json:
        return {
            "name": self._spec["name"],
            "image": self._spec["image"],
            "imageID": "",
            "state": state,
            "ready": "running" in state,
            "restartCount": 0,
        }

    def _secret_names(self) -> Mapping[str, str]:
        """Volumes by the name of the secret that they hold."""
        volumes = self._pod["spec"].get("volumes") or []
        return {volume["secret"]["secretName"]: volume["name"] for volume in volumes if "secret" in volume}

    # --------------------------------------------------------------------------------------------------- while it runs

    def _run_command(self) -> int | None:
        cluster = self._cluster
        places = self._mount()
        if places is None:
            return None

        def placed(text: str) -> str:
            for path, place in places.items():
                text = text.replace(path, place)
            return text

        words = [*(self._spec.get("command") or []), *(self._spec.get("args") or [])]
        home = self.directory / "home"
        home.mkdir()
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "TMPDIR": str(home),
            "HOSTNAME": self.name,
            **cluster.environment,
            **{variable["name"]: placed(str(variable.get("value", ""))) for variable in self._spec.get("env") or []},
        }
        with open(self.directory / "log", "wb") as log, cluster.changed:
            if self._told_to_end:
                return None
            self._process = subprocess.Popen(
                [placed(word) for word in words],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            running = {"containerStatuses": [self._container({"running": {"startedAt": cluster.now()}})]}
            scheduled = {"conditions": [{"type": "PodScheduled", "status": "True"}]}
            cluster.set_pod_status(self, {"phase": "Running", **scheduled, **running})
        code = self._process.wait()
        # What the first process left behind ends with the container.
        self._signal(signal.SIGKILL)
        return code

    def _mount(self) -> dict[str, str] | None:
        """Write secrets to files; returns where mounted directories really are, None if a secret is gone again."""
        names = {volume: secret for secret, volume in self._secret_names().items()}
        places = {}
        for mount in self._spec.get("volumeMounts") or []:
            place = self.directory / f"mount-{mount['name']}"
            place.mkdir(mode=0o700)
            places[mount["mountPath"]] = str(place)
            if mount["name"] in names:
                secret = self._cluster.state.objects.get(("secrets", self.namespace, names[mount["name"]]))
                if secret is None:
                    return None
                for file, content in (secret.get("data") or {}).items():
                    path = place / file
                    path.write_bytes(base64.b64decode(content))
                    path.chmod(0o400)
        return places

    def _final_status(self, code: int | None) -> Json:
        if self._process is None:
            return {"phase": "Failed", **self._end} if self._end else {}
        number = 0 if code is None else 128 - code if code < 0 else code
        reason = self._end.get("containerReason") or ("Completed" if number == 0 else "Error")
        ended = {"exitCode": number, "reason": reason, "finishedAt": self._cluster.now()}
        status = {key: value for key, value in self._end.items() if key != "containerReason"}
        phase = "Succeeded" if number == 0 and not self._end else "Failed"
        return {"phase": phase, "containerStatuses": [self._container({"terminated": ended})], **status}
