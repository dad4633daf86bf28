"""The pretended cluster speaks to the official client as a real one does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch

from flowlib.testing import FakeKubernetes
from tests import leaks


@pytest.fixture
def cluster() -> Iterator[FakeKubernetes]:
    """A cluster."""
    with FakeKubernetes(environment={"FLOWLIB_TEST_MARK": leaks.MARK}) as found:
        yield found


@pytest.fixture
def api(cluster: FakeKubernetes, tmp_path: Path) -> Iterator[Any]:
    """The client."""
    settings = client.Configuration()
    config.load_kube_config(cluster.kube_config(tmp_path / "config"), client_configuration=settings)
    connection = client.ApiClient(settings)
    yield client.CoreV1Api(connection)
    manager = connection.rest_client.pool_manager
    for key in list(manager.pools.keys()):
        manager.pools.get(key).close()


def pod(name: str, command: list[str]) -> Any:
    """A pod in the client's own words."""
    container = client.V1Container(name="main", image="any", command=command)
    spec = client.V1PodSpec(restart_policy="Never", containers=[container])
    return client.V1Pod(metadata=client.V1ObjectMeta(name=name, labels={"app": "test"}), spec=spec)


def test_pod_from_begin_to_end(cluster: FakeKubernetes, api: Any) -> None:
    """A pod is made, runs, is read, logs, and is deleted, all in the client's own types."""
    made = api.create_namespaced_pod("default", pod("one", ["sh", "-c", "echo hello; echo world; exit 3"]))
    assert made.metadata.uid and made.status.phase == "Pending"
    cluster.wait_for_phase("one", "Failed")
    (found,) = api.list_namespaced_pod("default", label_selector="app=test").items
    assert found.status.container_statuses[0].state.terminated.exit_code == 3
    log = api.read_namespaced_pod_log("one", "default", tail_lines=1, _preload_content=False)
    assert log.data == b"world\n"
    api.delete_namespaced_pod("one", "default", grace_period_seconds=0)
    with pytest.raises(client.ApiException) as caught:
        api.read_namespaced_pod("one", "default")
    assert (caught.value.status, caught.value.reason) == (404, "Not Found")


def test_watch(cluster: FakeKubernetes, api: Any) -> None:
    """A watch tells all changes from a version on, ends in time, and refuses a version that is too old."""
    version = api.list_namespaced_pod("default").metadata.resource_version
    timer = threading.Timer(0.1, cluster.create_pod, ["two", ["true"]])
    timer.start()
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(api.list_namespaced_pod, "default", resource_version=version, timeout_seconds=10):
        seen.append((event["type"], event["object"].status.phase))
        if seen[-1][1] == "Succeeded" and len(seen) == 3:
            cluster.delete_pod("two")
        if seen[-1][0] == "DELETED":
            watcher.stop()
    timer.join()
    assert seen == [("ADDED", "Pending"), ("MODIFIED", "Running"), ("MODIFIED", "Succeeded"), *seen[3:]]
    assert seen[-1] == ("DELETED", "Succeeded")
    assert list(watch.Watch().stream(api.list_namespaced_pod, "default", timeout_seconds=0.1)) == []
    for number in range(400):
        cluster.state.create("pods", "default", {"metadata": {"name": f"p{number}"}, "spec": SPEC}, "now")
        cluster.state.remove("pods", "default", f"p{number}")
        cluster.state.create("secrets", "default", {"metadata": {"name": f"s{number}"}}, "now")
    with pytest.raises(client.ApiException) as caught:
        list(watch.Watch().stream(api.list_namespaced_pod, "default", resource_version="1", timeout_seconds=1))
    assert caught.value.status == 410


SPEC = {"containers": [{"name": "main", "image": "any"}]}


def test_delete_has_grace(cluster: FakeKubernetes, api: Any) -> None:
    """A pod that heeds SIGTERM ends by it; one that does not is killed when its grace is over; both are gone then."""
    api.create_namespaced_pod("default", pod("heeds", ["sleep", "60"]))
    api.create_namespaced_pod("default", pod("ignores", ["bash", "-c", "trap '' TERM; echo ready; sleep 60"]))
    for name in ("heeds", "ignores"):
        cluster.wait_for_phase(name, "Running")
    deadline, pause = time.monotonic() + 10, threading.Event()
    while not cluster.log("default", "ignores", None, None):
        assert time.monotonic() < deadline
        pause.wait(0.02)
    for name in ("heeds", "ignores"):
        api.delete_namespaced_pod(name, "default", grace_period_seconds=1)
    assert cluster.state.objects["pods", "default", "ignores"]["metadata"]["deletionTimestamp"]
    assert cluster.wait_for_phase("heeds", "") == cluster.wait_for_phase("ignores", "") == ""


def test_what_is_refused(cluster: FakeKubernetes, api: Any) -> None:
    """Refusals reach the client with their codes: methods, paths, tokens, names."""
    for call, code in (
        (lambda: api.create_namespaced_pod("default", pod("A", ["true"])), 422),
        (lambda: api.create_namespaced_pod("nowhere", pod("a", ["true"])), 404),
        (lambda: api.list_namespaced_pod("default", label_selector="a b"), 400),
        (lambda: api.list_node(), 404),
        (lambda: api.replace_namespaced_pod("a", "default", pod("a", ["true"])), 501),
    ):
        with pytest.raises(client.ApiException) as caught:
            call()
        assert caught.value.status == code
    cluster.fail("GET", "pods", 429, "slow down", reason="TooManyRequests")
    with pytest.raises(client.ApiException) as caught:
        api.list_namespaced_pod("default")
    assert caught.value.status == 429 and "slow down" in caught.value.body
