"""What a pretended cluster knows: objects, their versions, and what became of them; and what it refuses.

It has neither socket nor thread nor clock: times are told, and whoever wants to wait for a change does so outside.
Refusals have the codes, reasons and words of a real API server, since providers decide by them.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

KINDS = {"pods": "Pod", "secrets": "Secret"}
HISTORY = 1000
"""Changes that a watch may ask for; older ones are gone, as on real servers."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_CONTAINER = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_AMOUNT = re.compile(r"\d+(\.\d+)?(m|[kKMGTPE]i?)?")


class Refused(Exception):
    """The server does not do what was asked.

    Args:
        code: HTTP status code.
        reason: One word, for programs.
        message: For people.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(code, reason, message)
        self.code = code
        self.reason = reason
        self.message = message

    def body(self) -> Json:
        """The answer."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }


@dataclass
class ClusterState:
    """Objects of a pretended cluster.

    Args:
        namespaces: Names of those that there are.
        pod_quota: Pods that each namespace may have; None for any number.

    Attributes:
        objects: By kind ("pods"), namespace and name.
        version: Counts changes; the newest object's ``resourceVersion``.
        history: Changes: version, kind, namespace, type ("ADDED" ...), the object as it was then.
    """

    namespaces: set[str] = field(default_factory=lambda: {"default"})
    pod_quota: int | None = None
    objects: dict[tuple[str, str, str], Json] = field(default_factory=dict)
    version: int = 1
    history: list[tuple[int, str, str, str, Json]] = field(default_factory=list)

    # ---------------------------------------------------------------------------------------------------- what is asked

    def create(self, kind: str, namespace: str, manifest: Json, now: str) -> Json:
        """Make an object.

        Args:
            kind: "pods" or "secrets".
            namespace: Where.
            manifest: What.
            now: The time, as the API writes it.

        Raises:
            Refused: It is invalid, there already, or more than the quota allows.
        """
        if not isinstance(manifest.get("metadata"), dict):
            raise Refused(400, "BadRequest", f"{KINDS[kind]} in version v1 cannot be handled: it has no metadata")
        new = copy.deepcopy(manifest)
        metadata: Json = new["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        if new.get("kind", KINDS[kind]) != KINDS[kind]:
            raise Refused(400, "BadRequest", f"{new['kind']} in version v1 cannot be handled as a {KINDS[kind]}")
        if metadata.get("namespace", namespace) != namespace:
            raise Refused(400, "BadRequest", "the namespace of the object does not match the namespace of the request")
        name = str(metadata.get("name") or "")
        problems = [*_metadata_problems(metadata), *(_pod_problems(new) if kind == "pods" else _secret_problems(new))]
        if problems:
            raise Refused(422, "Invalid", f'{KINDS[kind]} "{name}" is invalid: {_listed(problems)}')
        if namespace not in self.namespaces:
            raise Refused(404, "NotFound", f'namespaces "{namespace}" not found')
        if (kind, namespace, name) in self.objects:
            raise Refused(409, "AlreadyExists", f'{kind} "{name}" already exists')
        if kind == "pods" and self.pod_quota is not None:
            used = sum(1 for k, ns, _ in self.objects if (k, ns) == (kind, namespace))
            if used >= self.pod_quota:
                asked = f"requested: pods=1, used: pods={used}, limited: pods={self.pod_quota}"
                raise Refused(403, "Forbidden", f'pods "{name}" is forbidden: exceeded quota: pods, {asked}')
        metadata.update(namespace=namespace, uid=str(uuid.uuid4()), creationTimestamp=now)
        new.update(apiVersion="v1", kind=KINDS[kind])
        if kind == "pods":
            new["status"] = {"phase": "Pending", "qosClass": "Burstable"}
            new["spec"].setdefault("restartPolicy", "Always")
        return self._keep(kind, new, "ADDED")

    def read(self, kind: str, namespace: str, name: str) -> Json:
        """An object.

        Raises:
            Refused: There is none.
        """
        found = self.objects.get((kind, namespace, name))
        if found is None:
            raise Refused(404, "NotFound", f'{kind} "{name}" not found')
        return found

    def listed(self, kind: str, namespace: str | None, labels: str = "", fields: str = "") -> list[Json]:
        """Objects that match selectors, by name.

        Args:
            kind: "pods" or "secrets".
            namespace: Where; None for everywhere.
            labels: A label selector: ``a=b,c!=d,e in (f,g),h,!i``.
            fields: A field selector: ``metadata.name=x,status.phase!=Running``.

        Raises:
            Refused: A selector is none.
        """
        fits = selector(labels, fields)
        return [
            found
            for (k, ns, _), found in sorted(self.objects.items())
            if k == kind and namespace in (None, ns) and fits(found)
        ]

    def changes(self, kind: str, namespace: str | None, since: int) -> list[tuple[int, str, Json]]:
        """What happened after a version: version, type, object.

        Raises:
            Refused: That is too long ago.
        """
        if self.history and since < self.history[0][0] - 1:
            raise Refused(410, "Expired", f"too old resource version: {since} ({self.history[0][0] - 1})")
        return [(v, t, o) for v, k, ns, t, o in self.history if v > since and k == kind and namespace in (None, ns)]

    def patch(self, kind: str, namespace: str, name: str, change: Json) -> Json:
        """Change an object by a merge patch.

        Raises:
            Refused: There is none, or the change is not allowed.
        """
        old = self.read(kind, namespace, name)
        new = merged(old, change)
        problems = _metadata_problems(new["metadata"])
        if kind == "secrets" and old.get("immutable") and new.get("data") != old.get("data"):
            problems.append("data: Forbidden: field is immutable when `immutable` is set")
        if kind == "pods" and new.get("spec") != old.get("spec"):
            problems.append("spec: Forbidden: pod updates may not change fields other than those that may change")
        if problems:
            raise Refused(422, "Invalid", f'{KINDS[kind]} "{name}" is invalid: {_listed(problems)}')
        return self._keep(kind, new, "MODIFIED")

    def set_status(self, namespace: str, name: str, status: Json) -> Json | None:
        """Replace parts of a pod's status; None if it is gone."""
        old = self.objects.get(("pods", namespace, name))
        return None if old is None else self._keep("pods", {**old, "status": {**old["status"], **status}}, "MODIFIED")

    def begin_delete(self, kind: str, namespace: str, name: str, uid: str | None, now: str, grace: int) -> Json:
        """Mark an object as being deleted.

        Raises:
            Refused: There is none, or it is another one than was meant.
        """
        old = self.read(kind, namespace, name)
        if uid is not None and old["metadata"]["uid"] != uid:
            raise Refused(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {kind} "{name}": Precondition failed: UID in precondition: {uid}, '
                f"UID in object meta: {old['metadata']['uid']}",
            )
        if "deletionTimestamp" in old["metadata"]:
            return old
        marked = {"deletionTimestamp": now, "deletionGracePeriodSeconds": grace}
        return self._keep(kind, merged(old, {"metadata": marked}), "MODIFIED")

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """An object is gone, and with it what it owned."""
        old = self.objects.pop((kind, namespace, name), None)
        if old is None:
            return
        self.version += 1
        self._note(kind, old, "DELETED")
        uid = old["metadata"]["uid"]
        for k, ns, owned in list(self.objects):
            found = self.objects.get((k, ns, owned))
            owners = (found or {}).get("metadata", {}).get("ownerReferences") or []
            if ns == namespace and owners and all(owner.get("uid") == uid for owner in owners):
                self.remove(k, ns, owned)

    # ---------------------------------------------------------------------------------------------------------- inside

    def _keep(self, kind: str, new: Json, change: str) -> Json:
        self.version += 1
        new = {**new, "metadata": {**new["metadata"], "resourceVersion": str(self.version)}}
        self.objects[kind, new["metadata"]["namespace"], new["metadata"]["name"]] = new
        self._note(kind, new, change)
        return new

    def _note(self, kind: str, found: Json, change: str) -> None:
        found = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self.version)}}
        self.history.append((self.version, kind, found["metadata"]["namespace"], change, found))
        del self.history[:-HISTORY]


def merged(old: Json, change: Json) -> Json:
    """An object with a merge patch (RFC 7396) applied.

    Example:
        >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}})
        {'a': {'c': 2, 'd': 3}}
    """
    new = dict(old)
    for key, value in change.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict) and isinstance(new.get(key), dict):
            new[key] = merged(new[key], value)
        else:
            new[key] = value
    return new


def selector(labels: str, fields: str) -> Callable[[Json], bool]:
    """A test for what selectors ask for.

    Raises:
        Refused: One is none.

    Example:
        >>> selector("a in (b,c),!d", "")({"metadata": {"labels": {"a": "c"}}})
        True
    """
    tests = [_label_test(part) for part in re.split(r",(?![^(]*\))", labels) if part.strip()]
    tests += [_field_test(part) for part in fields.split(",") if part.strip()]
    return lambda found: all(test(found) for test in tests)


def _label_test(part: str) -> Callable[[Json], bool]:
    part = part.strip()
    amid = re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", part)
    if amid:
        key, word, values = amid[1], amid[2], {value.strip() for value in amid[3].split(",")}
        return lambda found: (_labels(found).get(key) in values) == (word == "in")
    pair = re.fullmatch(r"([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)", part)
    if pair:
        key, word, value = pair[1], pair[2], pair[3]
        return lambda found: (_labels(found).get(key) == value) == (word != "!=")
    alone = re.fullmatch(r"(!?)([^=!\s()]+)", part)
    if alone:
        return lambda found: (alone[2] in _labels(found)) == (not alone[1])
    raise Refused(400, "BadRequest", f"unable to parse requirement: found {part!r}")


def _field_test(part: str) -> Callable[[Json], bool]:
    pair = re.fullmatch(r"\s*(metadata\.name|metadata\.namespace|status\.phase|spec\.nodeName)(==|=|!=)(\S*)\s*", part)
    if not pair:
        raise Refused(400, "BadRequest", f"field label not supported: {part.partition('=')[0]}")
    outer, _, inner = pair[1].partition(".")
    return lambda found: (str((found.get(outer) or {}).get(inner, "")) == pair[3]) == (pair[2] != "!=")


def _labels(found: Json) -> Json:
    return found["metadata"].get("labels") or {}


def _listed(problems: list[str]) -> str:
    return problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"


def _metadata_problems(metadata: Json) -> list[str]:
    problems = []
    name = metadata.get("name")
    if not name:
        problems.append("metadata.name: Required value: name or generateName is required")
    elif not isinstance(name, str) or len(name) > 253 or not _NAME.fullmatch(name):
        problems.append(f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain is needed')
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_KEY.fullmatch(key):
            problems.append(f'metadata.labels: Invalid value: "{key}": a qualified name is needed')
        if not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            problems.append(f'metadata.labels: Invalid value: "{value}": a valid label is needed')
    problems += [
        "metadata.ownerReferences: Invalid value: apiVersion, kind, name and uid must not be empty"
        for owner in metadata.get("ownerReferences") or []
        if not all(owner.get(part) for part in ("apiVersion", "kind", "name", "uid"))
    ]
    return problems


def _secret_problems(secret: Json) -> list[str]:
    import base64

    problems = []
    for key, value in (secret.get("data") or {}).items():
        if not re.fullmatch(r"[-._a-zA-Z0-9]+", key):
            problems.append(f'data[{key}]: Invalid value: "{key}": a valid config key is needed')
        try:
            base64.b64decode(value, validate=True)
        except (TypeError, ValueError):
            problems.append(f"data[{key}]: Invalid value: illegal base64 data")
    return problems


def _pod_problems(pod: Json) -> list[str]:
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return ["spec: Required value"]
    problems = []
    if spec.get("restartPolicy", "Always") not in ("Always", "OnFailure", "Never"):
        problems.append(f'spec.restartPolicy: Unsupported value: "{spec["restartPolicy"]}"')
    containers = spec.get("containers") or []
    if not containers:
        problems.append("spec.containers: Required value")
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    for number, container in enumerate(containers):
        problems += [f"spec.containers[{number}].{text}" for text in _container_problems(container, volumes)]
    return problems


def _container_problems(container: Json, volumes: Iterable[Any]) -> list[str]:
    problems = []
    name = container.get("name")
    if not name:
        problems.append("name: Required value")
    elif len(name) > 63 or not _CONTAINER.fullmatch(name):
        problems.append(f'name: Invalid value: "{name}": a lowercase RFC 1123 label is needed')
    if not container.get("image"):
        problems.append("image: Required value")
    resources = container.get("resources") or {}
    for part in ("requests", "limits"):
        for key, value in (resources.get(part) or {}).items():
            if not _AMOUNT.fullmatch(str(value)):
                problems.append(f'resources.{part}[{key}]: Invalid value: "{value}": quantities must match {_AMOUNT}')
    for number, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("name") not in volumes:
            problems.append(f'volumeMounts[{number}].name: Not found: "{mount.get("name")}"')
    problems += [
        f"env[{number}].name: Required value"
        for number, variable in enumerate(container.get("env") or [])
        if not variable.get("name")
    ]
    return problems
