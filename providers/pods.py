"""What a block looks like to Kubernetes, and what Kubernetes says of it: manifests and states, as plain data.

Everything here is JSON in and JSON or text out, so that it is tested without a cluster.  The names and reasons are
those of the API of Kubernetes, version v1.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowlib.jobs.states import JobState
from flowlib.providers.watched_init import watched

Json = dict[str, Any]

RUN = "flowlib.run"
"""Label of all that one provider made: a token that nobody else has."""
BLOCK = "flowlib.block"
"""Label with the block's name."""
MANAGED = "app.kubernetes.io/managed-by"

PRIVATE = "/var/run/flowlib/block"
"""Where a pod finds its private files."""
CONTAINER = "flowlib"

_STUCK = {
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "RunContainerError",
}
"""Why a container is not started that may pass by itself, but mostly does not."""
_HOPELESS = {"ErrImageNeverPull", "InvalidImageName"}
"""Why a container is never started."""
_LOST = {"Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated", "UnexpectedAdmissionError"}
"""Why pods end through no fault of what runs in them."""


@dataclass(frozen=True)
class PodShape:
    """What all pods of a provider have in common; see ``KubernetesProvider`` for each."""

    image: str
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    user_id: int | None = None
    group_id: int | None = None
    run_as_non_root: bool = False
    pull_secrets: Sequence[str] = ()
    volumes: Sequence[tuple[str, str]] = ()
    service_account: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PodSeen:
    """What a pod's own status says.

    Attributes:
        state: The state.
        reason: Why it waits, or how it ended; "" where there is nothing to say.
        exit_code: Of its container, once that ended.
        stuck: It waits for something that may not come: 1 for probably, 2 for certainly.
        uid: Which of all pods that ever had this name.
    """

    state: JobState
    reason: str = ""
    exit_code: int | None = None
    stuck: int = 0
    uid: str = ""


@dataclass(frozen=True)
class KubeRefusal:
    """Why the API server did not do something.

    Attributes:
        why: In words.
        retryable: Whether asking again can help.
        exists: There is something of that name already.
    """

    why: str
    retryable: bool
    exists: bool = False


def object_name(text: str, suffix: str) -> str:
    """A name for a pod and its secret: at most 63 characters, those that names of hosts may have.

    Args:
        text: What it should begin with.
        suffix: What makes it unique.

    Example:
        >>> object_name("flowlib.HTEX_1.block-3", "a1b2-0")
        'flowlib-htex-1-block-3-a1b2-0'
    """
    room = 63 - len(suffix) - 1
    start = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:room].strip("-")
    return f"{start or 'flowlib'}-{suffix}"


def label_value(text: str) -> str:
    """A text as the value of a label.

    Example:
        >>> label_value("flowlib.htex.block-3"), label_value("a b/")
        ('flowlib.htex.block-3', 'a_b')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:63].strip("._-") or "x"


def labels(run: str, job_name: str) -> dict[str, str]:
    """The labels of what belongs to a block."""
    return {MANAGED: "flowlib", RUN: run, BLOCK: label_value(job_name)}


def secret_manifest(name: str, run: str, job_name: str, files: Mapping[str, bytes]) -> Json:
    """A secret with a block's private files."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels(run, job_name)},
        "type": "Opaque",
        "immutable": True,
        "data": {file: base64.b64encode(content).decode() for file, content in files.items()},
    }


def ownership(pod: str, uid: str) -> Json:
    """The change to a secret by which it goes away with its pod, whoever deletes that."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid, "blockOwnerDeletion": False}
    return {"metadata": {"ownerReferences": [owner]}}


def pod_manifest(name: str, run: str, job_name: str, script: str, shape: PodShape, secret: str | None) -> Json:
    """A pod that runs a script once.

    Args:
        name: Its name.
        run: See ``RUN``.
        job_name: The block's name.
        script: For bash. Everybody who may list pods can read it.
        shape: What all pods have in common.
        secret: Name of the secret with the private files; None where there are none.
    """
    security: Json = {}
    if shape.user_id is not None:
        security["runAsUser"] = shape.user_id
    if shape.group_id is not None:
        security["runAsGroup"] = shape.group_id
    if shape.run_as_non_root:
        security["runAsNonRoot"] = True
    group = shape.group_id if shape.group_id is not None else shape.user_id
    if group is not None:
        security["fsGroup"] = group
    mounts: list[Json] = []
    volumes: list[Json] = []
    if secret is not None:
        # Only this pod has the volume. Who its image's user is can be unknown, and must be able to read it.
        mode = 0o440 if group is not None else 0o444
        volumes.append({"name": "flowlib-block", "secret": {"secretName": secret, "defaultMode": mode}})
        mounts.append({"name": "flowlib-block", "mountPath": PRIVATE, "readOnly": True})
    for number, (claim, path) in enumerate(shape.volumes):
        volumes.append({"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"volume-{number}", "mountPath": path})
    environment = {**shape.environment, "FLOWLIB_BLOCK_DIR": PRIVATE}
    container: Json = {
        "name": CONTAINER,
        "image": shape.image,
        "command": ["/bin/bash", "-c", script],
        "env": [{"name": variable, "value": value} for variable, value in environment.items()],
        "resources": {"requests": dict(shape.requests), "limits": dict(shape.limits)},
        "volumeMounts": mounts,
    }
    spec: Json = {
        # A manager that ended did so for good; started again it would only fail.
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": shape.service_account is not None,
        "containers": [container],
        "volumes": volumes,
    }
    if security:
        spec["securityContext"] = security
    if shape.pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret_name} for secret_name in shape.pull_secrets]
    if shape.service_account is not None:
        spec["serviceAccountName"] = shape.service_account
    if shape.node_selector:
        spec["nodeSelector"] = dict(shape.node_selector)
    if shape.tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in shape.tolerations]
    metadata: Json = {"name": name, "labels": labels(run, job_name)}
    if shape.annotations:
        metadata["annotations"] = dict(shape.annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def pod_script(command: str, copies: int, job_name: str, worker_init: str, python: str | None) -> str:
    """The script that a pod runs, for bash.

    Args:
        command: Shell command line that starts one manager.
        copies: How many times to run it.
        job_name: The block's name.
        worker_init: Shell text that runs before.
        python: The Python to use; None for the ``python3`` on the PATH.
    """
    wanted = shlex.quote(python) if python else '"$(command -v python3)"'
    lines = [
        f"export JOBNAME={shlex.quote(job_name)}",
        'export FLOWLIB_LOGDIR="$(mktemp -d)"',
        '[ -w . ] || cd "$FLOWLIB_LOGDIR"',
        *watched(worker_init),
        f"export FLOWLIB_PYTHON={wanted}",
        '[ -n "$FLOWLIB_PYTHON" ] || echo "flowlib: the image has no python3 on its PATH" >&2',
        # Only the first process of a pod is told to end, and bash passes that on only if it does not itself run it.
        "processes=",
        *([f"{command} &", 'processes="$processes $!"'] * copies),
        "trap 'kill $processes 2>/dev/null' TERM",
        "code=0",
        "for process in $processes; do",
        '    wait "$process" || code=$?',
        '    while kill -0 "$process" 2>/dev/null; do wait "$process"; code=$?; done',
        "done",
        # Its log goes away with the pod; these lines do not.
        '[ "$code" -eq 0 ] || find "$FLOWLIB_LOGDIR" -name "*.log" -exec tail -n 50 {} + >&2',
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"


def read_pod(pod: Json) -> PodSeen:
    """What a pod's status says.

    Example:
        >>> read_pod({"metadata": {"uid": "1"}, "status": {"phase": "Succeeded"}}).state
        <JobState.COMPLETED: 4>
    """
    status: Json = pod.get("status") or {}
    uid = str((pod.get("metadata") or {}).get("uid", ""))
    phase = status.get("phase", "Pending")
    container = _container(status)
    state: Json = container.get("state") or {}
    ended = state.get("terminated")
    if phase in ("Succeeded", "Failed") or ended is not None:
        return _ended(status, phase, ended or (container.get("lastState") or {}).get("terminated") or {}, uid)
    leaving = "is being deleted from outside" if (pod.get("metadata") or {}).get("deletionTimestamp") else ""
    if phase == "Running":
        node = (pod.get("spec") or {}).get("nodeName")
        return PodSeen(JobState.RUNNING, leaving or (f"on {node}" if node else ""), uid=uid)
    if phase == "Unknown":
        return PodSeen(JobState.UNKNOWN, _words(status) or "its node does not answer", uid=uid)
    if leaving:
        return PodSeen(JobState.PENDING, leaving, uid=uid)
    return _pending(status, state, uid)


def _pending(status: Json, state: Json, uid: str) -> PodSeen:
    waiting = state.get("waiting")
    if waiting is not None:
        reason = str(waiting.get("reason") or "")
        stuck = 2 if reason in _HOPELESS else 1 if reason in _STUCK else 0
        return PodSeen(JobState.PENDING, _joined(reason, waiting.get("message")), None, stuck, uid)
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return PodSeen(JobState.PENDING, _joined(scheduled.get("reason"), scheduled.get("message")), uid=uid)
    return PodSeen(JobState.PENDING, _words(status), uid=uid)


def _ended(status: Json, phase: str, terminated: Json, uid: str) -> PodSeen:
    code = terminated.get("exitCode")
    code = int(code) if code is not None else None
    if phase == "Succeeded" or (phase != "Failed" and code == 0):
        return PodSeen(JobState.COMPLETED, "", 0 if code is None else code, uid=uid)
    said = _words(status)
    disrupted = _condition(status, "DisruptionTarget")
    if disrupted.get("status") == "True":
        said = said or _joined(disrupted.get("reason"), disrupted.get("message"))
    if status.get("reason") == "DeadlineExceeded":
        return PodSeen(JobState.TIMEOUT, said, code, uid=uid)
    if status.get("reason") in _LOST or disrupted.get("status") == "True":
        return PodSeen(JobState.FAILED, f"Kubernetes ended it: {said}", code, uid=uid)
    why = str(terminated.get("reason") or "")
    if why == "OOMKilled":
        return PodSeen(JobState.FAILED, "OOMKilled: it used more memory than max_mem allows", code, uid=uid)
    words = _joined("" if why == "Error" else why, terminated.get("message"))
    return PodSeen(JobState.FAILED, said or words or "its last command failed", code, uid=uid)


def _container(status: Json) -> Json:
    found: list[Json] = status.get("containerStatuses") or []
    ours = [container for container in found if container.get("name") == CONTAINER]
    return (ours or found or [{}])[0]


def _condition(status: Json, kind: str) -> Json:
    conditions: list[Json] = status.get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def _words(status: Json) -> str:
    return _joined(status.get("reason"), status.get("message"))


def _joined(reason: object, message: object) -> str:
    """Reason and message as one text."""
    return ": ".join(str(part).strip() for part in (reason, message) if part)


def read_refusal(code: int, said: str) -> KubeRefusal:
    """Why the API server refused something.

    Args:
        code: The HTTP status code.
        said: The message of its answer.

    Example:
        >>> read_refusal(403, 'pods "x" is forbidden: exceeded quota: small').retryable
        True
    """
    text = said.strip() or f"HTTP status {code}"
    low = text.lower()
    if code == 409 and "already exists" in low:
        return KubeRefusal(text, retryable=False, exists=True)
    if code == 403 and "exceeded quota" in low:
        return KubeRefusal(text, retryable=True)
    if code == 401:
        return KubeRefusal(f"{text}; log in to the cluster again", retryable=False)
    if code == 403:
        return KubeRefusal(
            f"{text}; the account needs the verbs create, get, list, patch and delete on pods and secrets, and get on "
            "pods/log, in this namespace",
            retryable=False,
        )
    # A namespace that is being made, a quota that two change at once, a server that has too much to do.
    return KubeRefusal(text, retryable=code in (408, 409, 425, 429) or code >= 500)
