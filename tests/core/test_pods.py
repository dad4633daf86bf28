"""Pods as plain data: manifests, states, refusals; and what the pretended cluster knows and refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.jobs.states import JobState
from flowlib.providers import pods
from flowlib.testing.kube_state import ClusterState, Refused, merged, selector

SHAPE = pods.PodShape("image", {"cpu": "1"}, {"cpu": "2"})


@given(st.text(max_size=80), st.integers(0, 99_999))
def test_names_and_labels_are_valid(text: str, number: int) -> None:
    """Whatever a job is called, its pod's name and labels are accepted, and the name keeps what makes it unique."""
    suffix = f"0123456789ab-{number}"
    name = pods.object_name(text, suffix)
    manifest = pods.pod_manifest(name, suffix, text, "true", SHAPE, "secret")
    made = ClusterState().create("pods", "default", manifest, "now")
    assert made["metadata"]["name"] == name
    assert name.endswith(suffix) and len(name) <= 63


def test_nothing_private_in_a_pod() -> None:
    """Keys are in the secret only; the pod names it, and mounts it where only it sees it."""
    manifest = pods.pod_manifest("n", "r", "job", "true", SHAPE, "n")
    assert "s3cret" not in str(manifest)
    (volume,) = manifest["spec"]["volumes"]
    assert volume["secret"]["secretName"] == "n"
    assert pods.secret_manifest("n", "r", "job", {"block.json": b"s3cret"})["data"] == {"block.json": "czNjcmV0"}
    assert manifest["spec"]["restartPolicy"] == "Never"
    assert manifest["spec"]["automountServiceAccountToken"] is False


def test_shape_is_heard() -> None:
    """Users, volumes, accounts, secrets for images, selectors and tolerations stand where Kubernetes wants them."""
    shape = pods.PodShape(
        "image",
        {"cpu": "1"},
        {"nvidia.com/gpu": "1"},
        user_id=1000,
        run_as_non_root=True,
        pull_secrets=["regcred"],
        volumes=[("claim", "/data")],
        service_account="robot",
        annotations={"a": "b"},
        node_selector={"disk": "ssd"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        environment={"X": "1"},
    )
    manifest = pods.pod_manifest("n", "r", "job", "true", shape, "n")
    spec = manifest["spec"]
    assert spec["securityContext"] == {"runAsUser": 1000, "runAsNonRoot": True, "fsGroup": 1000}
    assert spec["volumes"][0]["secret"]["defaultMode"] == 0o440
    assert spec["volumes"][1] == {"name": "volume-0", "persistentVolumeClaim": {"claimName": "claim"}}
    assert spec["containers"][0]["volumeMounts"][1] == {"name": "volume-0", "mountPath": "/data"}
    assert spec["imagePullSecrets"] == [{"name": "regcred"}]
    assert spec["serviceAccountName"] == "robot" and spec["automountServiceAccountToken"] is True
    assert spec["nodeSelector"] == {"disk": "ssd"} and spec["tolerations"][0]["key"] == "gpu"
    assert manifest["metadata"]["annotations"] == {"a": "b"}
    assert {"name": "X", "value": "1"} in spec["containers"][0]["env"]


def waiting(reason: str, message: str = "words") -> dict[str, Any]:
    """Status of a pod whose container waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "flowlib", "state": state}]}


def ended(phase: str, code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    """Status of a pod whose container ended."""
    state = {"terminated": {"exitCode": code, "reason": reason}}
    return {"phase": phase, "containerStatuses": [{"name": "flowlib", "state": state}], **more}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "bye"}


@pytest.mark.parametrize(
    ("status", "state", "words", "code", "stuck"),
    [
        ({}, JobState.PENDING, "", None, 0),
        ({"phase": "Pending", "conditions": [UNSCHEDULABLE]}, JobState.PENDING, "Unschedulable: no cpu", None, 0),
        (waiting("ContainerCreating"), JobState.PENDING, "ContainerCreating", None, 0),
        (waiting("ImagePullBackOff"), JobState.PENDING, "ImagePullBackOff: words", None, 1),
        (waiting("CreateContainerConfigError"), JobState.PENDING, "CreateContainerConfigError", None, 1),
        (waiting("InvalidImageName"), JobState.PENDING, "InvalidImageName", None, 2),
        ({"phase": "Running"}, JobState.RUNNING, "", None, 0),
        ({"phase": "Unknown", "reason": "NodeLost"}, JobState.UNKNOWN, "NodeLost", None, 0),
        (ended("Succeeded", 0, "Completed"), JobState.COMPLETED, "", 0, 0),
        (ended("Running", 0, "Completed"), JobState.COMPLETED, "", 0, 0),
        (ended("Running", 1), JobState.FAILED, "its last command failed", 1, 0),
        (ended("Failed", 137, "OOMKilled"), JobState.FAILED, "OOMKilled", 137, 0),
        (ended("Failed", 128, "StartError"), JobState.FAILED, "StartError", 128, 0),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}, JobState.FAILED, "Evicted: low", None, 0),
        (ended("Failed", 143, conditions=[DISRUPTED]), JobState.FAILED, "PreemptionByScheduler: bye", 143, 0),
        (ended("Failed", 143, reason="DeadlineExceeded"), JobState.FAILED, "DeadlineExceeded", 143, 0),
        ({"phase": "Failed", "reason": "DeadlineExceeded"}, JobState.TIMEOUT, "DeadlineExceeded", None, 0),
    ],
)
def test_states(status: dict[str, Any], state: JobState, words: str, code: int | None, stuck: int) -> None:
    """Each phase, reason and condition of a pod is read as what it means for a block."""
    seen = pods.read_pod({"metadata": {"uid": "u"}, "status": status})
    assert (seen.state, seen.exit_code, seen.stuck) == (state, code, stuck)
    assert words in seen.reason


@pytest.mark.parametrize(
    ("code", "said", "retryable"),
    [
        (403, 'pods "x" is forbidden: exceeded quota: small', True),
        (403, 'pods is forbidden: User "eve" cannot create resource "pods"', False),
        (401, "Unauthorized", False),
        (404, 'namespaces "x" not found', False),
        (409, "Operation cannot be fulfilled on resourcequotas", True),
        (422, 'Pod "x" is invalid', False),
        (400, "BadRequest", False),
        (429, "too many requests", True),
        (500, "etcdserver: leader changed", True),
        (503, "", True),
    ],
)
def test_refusals(code: int, said: str, retryable: bool) -> None:
    """What may pass by itself is told from what will not, and the server's words are kept."""
    refusal = pods.read_refusal(code, said)
    assert refusal.retryable is retryable
    assert not refusal.exists
    assert said in refusal.why and refusal.why
    assert pods.read_refusal(409, 'pods "x" already exists').exists


def pod(name: str, **labels: str) -> dict[str, Any]:
    """A pod of somebody."""
    spec = {"containers": [{"name": "main", "image": "any"}]}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def test_cluster_lists_by_selectors() -> None:
    """All forms of selectors are understood; what is none is refused."""
    state = ClusterState({"default", "other"})
    state.create("pods", "default", pod("a", run="1", block="x"), "now")
    state.create("pods", "default", pod("b", run="1", block="y"), "now")
    state.create("pods", "other", pod("c", run="2"), "now")

    def names(labels: str, fields: str = "", namespace: str | None = None) -> list[str]:
        return [found["metadata"]["name"] for found in state.listed("pods", namespace, labels, fields)]

    assert names("run=1") == ["a", "b"]
    assert names("run=1,block in (y,z)") == ["b"]
    assert names("block notin (y)") == ["a", "c"]
    assert names("!block") == names("run!=1") == ["c"]
    assert names("block", "metadata.name=a") == ["a"]
    assert names("", "", "other") == ["c"]
    for labels, fields in (("a b", ""), ("", "spec.nothing=1")):
        with pytest.raises(Refused):
            selector(labels, fields)


def test_cluster_refuses_as_a_real_one() -> None:
    """Each kind of refusal has the code and the reason that clients decide by."""
    state = ClusterState(pod_quota=1)

    def refused(call: Any, *args: Any) -> tuple[int, str]:
        with pytest.raises(Refused) as caught:
            call(*args)
        assert caught.value.body()["code"] == caught.value.code
        return caught.value.code, caught.value.reason

    assert refused(state.create, "pods", "nowhere", pod("a"), "now") == (404, "NotFound")
    assert refused(state.create, "pods", "default", pod("A_b"), "now") == (422, "Invalid")
    assert refused(state.create, "pods", "default", pod("a", key="x" * 64), "now") == (422, "Invalid")
    assert refused(state.create, "pods", "default", {"metadata": {"name": "a"}}, "now") == (422, "Invalid")
    assert refused(state.create, "pods", "default", {}, "now") == (400, "BadRequest")
    made = state.create("pods", "default", pod("a"), "now")
    assert refused(state.create, "pods", "default", pod("a"), "now") == (409, "AlreadyExists")
    assert refused(state.create, "pods", "default", pod("b"), "now") == (403, "Forbidden")
    assert refused(state.begin_delete, "pods", "default", "a", "another", "now", 0) == (409, "Conflict")
    assert refused(state.patch, "pods", "default", "a", {"spec": {"containers": []}}) == (422, "Invalid")
    assert refused(state.read, "pods", "default", "b") == (404, "NotFound")
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": made["metadata"]["uid"]}
    secret = {"metadata": {"name": "s", "ownerReferences": [owner]}, "data": {"k": "dg=="}, "immutable": True}
    state.create("secrets", "default", secret, "now")
    assert refused(state.patch, "secrets", "default", "s", {"data": {"k": "dw=="}}) == (422, "Invalid")
    state.remove("pods", "default", "a")
    assert state.objects == {}, "what is owned goes with its owner"


def test_cluster_tells_changes_in_order() -> None:
    """Versions only grow, changes are told from any version on, and one that is too old is refused."""
    state = ClusterState()
    first = state.create("pods", "default", pod("a"), "now")
    state.set_status("default", "a", {"phase": "Running"})
    state.remove("pods", "default", "a")
    told = state.changes("pods", "default", int(first["metadata"]["resourceVersion"]))
    assert [(change, found["status"]["phase"]) for _, change, found in told] == [
        ("MODIFIED", "Running"),
        ("DELETED", "Running"),
    ]
    assert [version for version, _, _ in told] == sorted({version for version, _, _ in told})
    for _ in range(600):
        state.create("pods", "default", pod("b"), "now")
        state.remove("pods", "default", "b")
    with pytest.raises(Refused) as caught:
        state.changes("pods", "default", 1)
    assert caught.value.code == 410


def test_merge_patch() -> None:
    """A patch changes what it names, at any depth, and leaves the original alone."""
    old = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert merged(old, {"a": {"b": None, "c": [2]}, "e": {"f": 1}}) == {"a": {"c": [2]}, "d": 1, "e": {"f": 1}}
    assert old == {"a": {"b": 1, "c": [1]}, "d": 1}
