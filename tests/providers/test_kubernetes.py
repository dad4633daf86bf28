"""KubernetesProvider through the official client, over HTTP, on a pretended cluster whose pods are real processes."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib import HighThroughputExecutor
from flowlib.errors import (
    BadStateException,
    ConfigurationError,
    ExecutionProviderException,
    OptionalModuleMissing,
    SubmitException,
)
from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers import KubernetesProvider
from flowlib.testing import FakeKubernetes
from tests import leaks

Provide = Callable[..., KubernetesProvider]


@pytest.fixture
def cluster() -> Iterator[FakeKubernetes]:
    """A cluster."""
    with FakeKubernetes(environment={"FLOWLIB_TEST_MARK": leaks.MARK}) as found:
        yield found


@pytest.fixture
def provide(cluster: FakeKubernetes, tmp_path: Path) -> Iterator[Provide]:
    """Makes providers for the cluster; what they began is ended."""
    made = []
    (tmp_path / "scripts").mkdir()

    def provider(**arguments: Any) -> KubernetesProvider:
        arguments = {"kube_config": cluster.kube_config(tmp_path / "config"), "cmd_timeout": 5, **arguments}
        found = KubernetesProvider("image", status_polling_interval=0.2, **arguments)
        found.script_dir = str(tmp_path / "scripts")
        made.append(found)
        return found

    yield provider
    for found in made:
        if found._client is not None:
            found._client.close()


def until(provider: KubernetesProvider, job: str, state: JobState | None = None, seconds: float = 20) -> JobStatus:
    """The job's status once it is in that state, or has ended."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while True:
        (status,) = provider.status([job])
        if status.state is state or status.terminal:
            return status
        assert time.monotonic() < deadline, f"still {status}"
        pause.wait(0.05)


def test_job_runs_with_its_files(cluster: FakeKubernetes, provide: Provide) -> None:
    """A pod's command finds its private files, its exit code and last words come back, and nothing is left."""
    provider = provide()
    directory = provider.deliver({"block.json": b"s3cret"}, "job")
    job = provider.submit(f"sh -c 'cat \"{directory}/block.json\" | wc -c; echo last words >&2; exit 7'", 1, "job")
    status = until(provider, job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 7)
    assert status.stderr_summary is not None
    assert status.stderr_summary.splitlines()[:2] == ["6", "last words"]
    assert cluster.wait_for_phase(job, "") == ""
    assert cluster.pods() == cluster.secrets() == []
    assert status.script_path is not None
    assert "s3cret" not in Path(status.script_path).read_text()


def test_keys_are_in_an_owned_secret_only(cluster: FakeKubernetes, provide: Provide) -> None:
    """While a block lives its keys are in one secret that belongs to its pod; deleting the pod deletes it."""
    provider = provide()
    directory = provider.deliver({"block.json": b"s3cret"}, "job")
    job = provider.submit(f'sleep 60 # "{directory}"', 1, "job")
    until(provider, job, JobState.RUNNING)
    pod = cluster.state.read("pods", "default", job)
    (owner,) = cluster.state.read("secrets", "default", job)["metadata"]["ownerReferences"]
    assert owner["uid"] == pod["metadata"]["uid"]
    assert "s3cret" not in json.dumps(pod) and "czNjcmV0" not in json.dumps(pod)
    cluster.delete_pod(job)
    assert cluster.wait_for_phase(job, "") == ""
    assert cluster.secrets() == []
    status = until(provider, job)
    assert status.state is JobState.CANCELLED
    assert "somebody else" in str(status.message)


def test_foreign_pods_are_left_alone(cluster: FakeKubernetes, provide: Provide) -> None:
    """Pods of others, of another run, and one that took a deleted pod's name, are neither listed nor deleted."""
    cluster.create_pod("mine", ["sleep", "60"], labels={"app": "web"})
    provider, other = provide(), provide()
    theirs = other.submit("sleep 60", 1, "job")
    job = provider.submit("sleep 60", 1, "job")
    assert provider.cancel(["mine", theirs]) == [False, False]
    assert [status.state for status in provider.status(["mine", theirs])] == [JobState.MISSING] * 2
    until(provider, job, JobState.RUNNING)
    cluster.delete_pod(job)
    cluster.wait_for_phase(job, "")
    cluster.create_pod(job, ["sleep", "60"], labels={"app": "web"})
    assert provider.cancel([job]) == [True]
    assert sorted(cluster.pods()) == sorted(["mine", theirs, job])
    assert other.cancel([theirs]) == [True]


def test_cancel_ends_processes(cluster: FakeKubernetes, provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled pod's command is told to end, long before it would be killed, and its block counts as cancelled."""
    monkeypatch.setattr("flowlib.providers.kubernetes.GRACE", 600)
    provider = provide()
    job = provider.submit("sleep 60", 1, "job")
    until(provider, job, JobState.RUNNING)
    assert provider.cancel([job]) == [True]
    assert until(provider, job).state is JobState.CANCELLED
    assert provider.cancel([job]) == [True]
    assert cluster.pods() == []


def test_one_list_for_many(cluster: FakeKubernetes, provide: Provide) -> None:
    """A query about many pods is one request, and is not made about pods that ended."""
    provider = provide()
    jobs = [provider.submit("sleep 60", 1, f"job-{number}") for number in range(5)]
    cluster.requests.clear()
    provider.status(jobs)
    assert [method for method, _ in cluster.requests] == ["GET"]
    provider.cancel(jobs)
    for job in jobs:
        until(provider, job)
    cluster.requests.clear()
    provider.status(jobs)
    assert cluster.requests == []


def test_image_that_cannot_be_pulled(cluster: FakeKubernetes, provide: Provide) -> None:
    """A pod whose image is not there waits with the reason, and fails with it after ``pending_limit``."""
    cluster.images = set()
    provider = provide(pending_limit=1)
    job = provider.submit("true", 1, "job")
    deadline, pause = time.monotonic() + 10, threading.Event()
    while "ImagePullBackOff" not in str(provider.status([job])[0].message):
        assert time.monotonic() < deadline
        pause.wait(0.05)
    status = until(provider, job)
    assert status.state is JobState.FAILED
    assert "ImagePullBackOff" in str(status.message) and "image" in str(status.message)
    cluster.wait_for_phase(job, "")
    assert cluster.pods() == []


def test_pod_without_room_waits(cluster: FakeKubernetes, provide: Provide) -> None:
    """A pod for which there is no node is pending with the scheduler's reason, for as long as it takes."""
    cluster.hold_pods("0/2 nodes are available: 2 Insufficient cpu.")
    provider = provide(pending_limit=0.1)
    job = provider.submit("true", 1, "job")
    deadline, pause = time.monotonic() + 10, threading.Event()
    while "Insufficient cpu" not in str(provider.status([job])[0].message):
        assert time.monotonic() < deadline
        pause.wait(0.05)
    pause.wait(0.3)
    assert provider.status([job])[0].state is JobState.PENDING
    cluster.hold_pods(None)
    assert until(provider, job).state is JobState.COMPLETED


@pytest.mark.parametrize(
    ("order", "words", "code"),
    [
        ("evict", "Evicted: The node was low on resource", 137),
        ("out_of_memory", "OOMKilled", 137),
        ("preempt", "PreemptionByScheduler", 137),
    ],
)
def test_pod_is_ended_by_the_cluster(
    cluster: FakeKubernetes, provide: Provide, order: str, words: str, code: int
) -> None:
    """Evictions, preemptions and the OOM killer are named as what ended a block."""
    provider = provide()
    job = provider.submit("sleep 60", 1, "job")
    until(provider, job, JobState.RUNNING)
    getattr(cluster, order)(job)
    status = until(provider, job)
    assert (status.state, status.exit_code) == (JobState.FAILED, code)
    assert words in str(status.message)


@pytest.mark.parametrize(
    ("arrange", "words", "retryable"),
    [
        (lambda c: setattr(c.state, "pod_quota", 0), "exceeded quota", True),
        (lambda c: c.fail("POST", "pods", 403, 'User "eve" cannot create resource "pods"'), "verbs", False),
        (lambda c: c.fail("POST", "secrets", 403, 'cannot create resource "secrets"'), "verbs", False),
        (lambda c: c.fail("POST", "pods", 422, "spec is wrong"), "spec is wrong", False),
        (lambda c: c.fail("POST", "pods", 500, "etcdserver: no leader"), "no leader", True),
        (lambda c: c.fail("POST", "pods", 429, "slow down"), "slow down", True),
        (lambda c: c.state.namespaces.clear(), 'namespaces "default" not found', False),
    ],
)
def test_submit_is_refused(
    cluster: FakeKubernetes, provide: Provide, arrange: Callable[[Any], None], words: str, retryable: bool
) -> None:
    """A refusal has the server's words, says whether it may pass, and leaves no secret behind."""
    arrange(cluster)
    provider = provide()
    provider.deliver({"block.json": b"x"}, "job")
    with pytest.raises(SubmitException, match=words) as caught:
        provider.submit("true", 1, "job")
    assert caught.value.retryable is retryable
    assert cluster.secrets() == cluster.pods() == []


def test_wrong_token_and_no_server(cluster: FakeKubernetes, provide: Provide, tmp_path: Path) -> None:
    """An account that is not let in is permanent; a server that is not there may come back."""
    with pytest.raises(SubmitException, match="log in") as caught:
        provide(kube_config=cluster.kube_config(tmp_path / "wrong", token="other")).submit("true", 1, "job")
    assert caught.value.retryable is False
    path = tmp_path / "gone"
    path.write_text(Path(cluster.kube_config(path)).read_text().replace(cluster.address, "http://127.0.0.1:9"))
    with pytest.raises(SubmitException, match="cannot be reached") as caught:
        provide(kube_config=str(path)).submit("true", 1, "job")
    assert caught.value.retryable is True


@pytest.mark.parametrize("done", [True, False])
def test_lost_answer_makes_one_pod(cluster: FakeKubernetes, provide: Provide, done: bool) -> None:
    """Whether or not a request whose answer was lost did its work, there is one pod in the end."""
    provider = provide()
    provider.deliver({"block.json": b"x"}, "job")
    cluster.drop("POST", "pods", done=done)
    job = provider.submit("sleep 60", 1, "job")
    if not done:
        assert provider.status([job])[0].state is JobState.UNKNOWN
    assert until(provider, job, JobState.RUNNING).state is JobState.RUNNING
    assert cluster.pods() == [job]
    assert len(cluster.secrets()) == 1
    assert provider.cancel([job]) == [True]


def test_cancel_while_it_is_not_known_whether_it_exists(cluster: FakeKubernetes, provide: Provide) -> None:
    """A pod whose submission got no answer can be cancelled, also if it was made."""
    provider = provide()
    cluster.drop("POST", "pods", done=True)
    job = provider.submit("sleep 60", 1, "job")
    assert provider.cancel([job]) == [True]
    assert until(provider, job).state is JobState.CANCELLED
    assert cluster.pods() == []


def test_failed_query_says_nothing(cluster: FakeKubernetes, provide: Provide) -> None:
    """A query that is refused, or not answered, raises; the pod is as alive as before."""
    provider = provide()
    job = provider.submit("sleep 60", 1, "job")
    cluster.fail("GET", "pods", 500, "etcdserver: request timed out")
    with pytest.raises(ExecutionProviderException, match="timed out"):
        provider.status([job])
    cluster.drop("GET", "pods", done=False)
    with pytest.raises(ExecutionProviderException, match="did not answer"):
        provider.status([job])
    assert until(provider, job, JobState.RUNNING).state is JobState.RUNNING
    cluster.fail("DELETE", "pods", 500, "etcdserver: request timed out")
    assert provider.cancel([job]) == [False]
    assert provider.cancel([job]) == [True]


def test_no_python_in_the_image(cluster: FakeKubernetes, provide: Provide) -> None:
    """An image without Python, and a worker_init that fails, are named in the pod's last words."""
    cluster.environment["PATH"] = "/bin-that-is-not"
    provider = provide(worker_init="no-such-command")
    job = provider.submit('"$FLOWLIB_PYTHON" -m flowlib', 1, "job")
    status = until(provider, job)
    assert status.state is JobState.FAILED
    assert "no python3" in str(status.stderr_summary)
    assert "no-such-command" in str(status.stderr_summary)


def test_constructor_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a provider needs no client and no cluster; a submit without the client names the extra."""
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    provider = KubernetesProvider("image", kube_config="/nowhere")
    assert provider.render_manifest("true")["spec"]["containers"][0]["image"] == "image"
    with pytest.raises(OptionalModuleMissing, match=r"flowlib\[kubernetes\]"):
        provider.submit("true", 1)


def test_no_configuration(tmp_path: Path) -> None:
    """A configuration that is not there is named."""
    pytest.importorskip("kubernetes")
    with pytest.raises(ConfigurationError, match="nowhere"):
        KubernetesProvider("image", kube_config=str(tmp_path / "nowhere")).submit("true", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": ""}, "image="),
        ({"nodes_per_block": 2}, "one pod"),
        ({"max_cpu": 0}, "max_cpu=0"),
        ({"init_cpu": 4}, "init_cpu=4"),
        ({"init_mem": "lots"}, "init_mem='lots'"),
        ({"persistent_volumes": ["data"]}, "pairs"),
        ({"pending_limit": 0}, "pending_limit=0"),
        ({"worker_init": None}, "worker_init=None"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    """What makes no sense is refused where it is given, by name."""
    with pytest.raises(ConfigurationError, match=words):
        KubernetesProvider(**{"image": "x", **arguments})


# ------------------------------------------------------------------------------------------------------------ whole runs


def executor(provider: KubernetesProvider, **settings: Any) -> HighThroughputExecutor:
    """One for tests: one worker in each pod, impatient, reached on the loopback address."""
    provider.script_dir = None
    settings = {"max_workers_per_node": 1, "heartbeat_period": 1, "heartbeat_threshold": 10, **settings}
    return HighThroughputExecutor(label="kube", provider=provider, address="127.0.0.1", **settings)


@flowlib.python_app
def which_pod(seconds: float = 0.0) -> str:
    """The pod in which a task runs."""
    import os
    import time

    time.sleep(seconds)
    return os.environ["HOSTNAME"]


@pytest.mark.slow
def test_run_in_pods(cluster: FakeKubernetes, provide: Provide, load: Callable[..., Any]) -> None:
    """Tasks run in several pods; one that is evicted costs no task; in the end no pod and no secret is left."""
    kernel = load(executor(provide(init_blocks=2, max_blocks=2)), retries=0)
    seen: set[str] = set()
    deadline = time.monotonic() + 40
    while len(seen) < 2:
        assert time.monotonic() < deadline, seen
        seen |= {future.result(timeout=30) for future in [which_pod(0.05) for _ in range(8)]}
    assert seen == set(cluster.pods())
    futures = [which_pod(0.2) for _ in range(30)]
    gone = min(seen)
    cluster.evict(gone)
    assert gone not in [future.result(timeout=40) for future in futures[-5:]]
    kernel.cleanup()
    for name in cluster.pods():
        cluster.wait_for_phase(name, "")
    assert cluster.pods() == cluster.secrets() == []


@pytest.mark.slow
def test_broken_image_is_one_clear_error(cluster: FakeKubernetes, provide: Provide, load: Callable[..., Any]) -> None:
    """An image that cannot be pulled ends the run with one error that names it."""
    cluster.images = set()
    load(executor(provide(init_blocks=1, max_blocks=1, pending_limit=0.5)))
    with pytest.raises(BadStateException, match="ImagePullBackOff"):
        which_pod().result(timeout=30)


@pytest.mark.slow
def test_manager_that_fails_is_quoted(cluster: FakeKubernetes, provide: Provide, load: Callable[..., Any]) -> None:
    """A pod whose Python has no flowlib fails the run with what that Python said."""
    python = Path(cluster.directory) / "python3"
    python.write_text("#!/bin/sh\necho \"No module named 'flowlib'\" >&2\nexit 1\n")
    python.chmod(0o755)
    cluster.environment["PATH"] = f"{cluster.directory}:{os.environ['PATH']}"
    load(executor(provide(init_blocks=1, max_blocks=1)))
    with pytest.raises(BadStateException, match="No module named 'flowlib'"):
        which_pod().result(timeout=30)
