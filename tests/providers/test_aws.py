"""AWSProvider through boto3 on moto's server, and whole runs whose instances are local processes."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib import HighThroughputExecutor
from flowlib.errors import ConfigurationError, ExecutionProviderException, OptionalModuleMissing, SubmitException
from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers import AWSProvider
from tests import leaks
from tests.providers.fake_ec2 import FakeEc2, Moto

Provide = Callable[..., AWSProvider]
IMAGE = "ami-03cf127a"


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    """moto's server."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        server = Moto()
    yield server
    server.close()


@pytest.fixture
def cloud(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEc2]:
    """A cloud without anything in it, and credentials for it."""
    moto.reset()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = FakeEc2(moto, {"FLOWLIB_TEST_MARK": leaks.MARK})
    yield found
    found.close()


@pytest.fixture
def provide(cloud: FakeEc2, tmp_path: Path) -> Iterator[Provide]:
    """Makes providers for the cloud."""
    made = []

    def provider(**arguments: Any) -> AWSProvider:
        arguments = {"image_id": IMAGE, "endpoint_url": cloud.address, "cmd_timeout": 10, **arguments}
        found = AWSProvider(status_polling_interval=0.3, **arguments)
        found.script_dir = str(tmp_path)
        made.append(found)
        return found

    yield provider
    for found in made:
        if found._client is not None:
            found._client.close()


def ec2(cloud: FakeEc2, operation: str, **arguments: Any) -> dict[str, Any]:
    """A call to the cloud, as somebody else."""
    return cloud.moto.admin.call(operation, **arguments)


def states(cloud: FakeEc2) -> dict[str, str]:
    """States of all instances of the account, whoever has them."""
    found = ec2(cloud, "describe_instances")["Reservations"]
    return {i["InstanceId"]: i["State"]["Name"] for reservation in found for i in reservation["Instances"]}


def until(provider: AWSProvider, job: str, state: JobState | None = None, seconds: float = 20) -> JobStatus:
    """The job's status once it is in that state, or has ended."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while True:
        (status,) = provider.status([job])
        if status.state is state or status.terminal:
            return status
        assert time.monotonic() < deadline, f"still {status}"
        pause.wait(0.05)


def test_instance_lives_and_is_cancelled(cloud: FakeEc2, provide: Provide) -> None:
    """An instance starts in a network of ours, carries our tags, and is terminated when it is told to end."""
    provider = provide(tags={"project": "x"})
    provider.deliver({"block.json": b"once"}, "job")
    job = provider.submit('cat "${FLOWLIB_BLOCK_DIR}/block.json"', 1, "job")
    assert until(provider, job, JobState.RUNNING).state is JobState.RUNNING
    (reservation,) = ec2(cloud, "describe_instances")["Reservations"]
    (instance,) = reservation["Instances"]
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags["flowlib:run"] == provider.run and tags["project"] == "x"
    groups = ec2(cloud, "describe_security_groups", GroupIds=[instance["NetworkInterfaces"][0]["Groups"][0]["GroupId"]])
    assert groups["SecurityGroups"][0]["IpPermissions"] == [], "nobody connects to instances"
    assert provider.cancel([job]) == [True]
    assert until(provider, job).state is JobState.CANCELLED
    assert states(cloud) == {job: "terminated"}


def test_start_script_runs(cloud: FakeEc2, provide: Provide) -> None:
    """The start-up script unpacks private files where only its user reads them, and runs the command."""
    cloud.run_scripts = True
    provider = provide(worker_init="export GREETING=hello")
    provider.deliver({"block.json": b"s3cret" * 50}, "job")
    job = provider.submit(
        'stat -c %a "${FLOWLIB_BLOCK_DIR}" "${FLOWLIB_BLOCK_DIR}/block.json"; '
        'wc -c <"${FLOWLIB_BLOCK_DIR}/block.json"; echo $GREETING; exit 3',
        1,
        "job",
    )
    deadline, pause = time.monotonic() + 20, threading.Event()
    while "exit code" not in cloud.console(job):
        assert time.monotonic() < deadline
        pause.wait(0.05)
    words = cloud.console(job).split()
    assert [word for word in words if word in ("700", "600", "300", "hello")] == ["700", "600", "300", "hello"]
    assert "flowlib: exit code 3" in cloud.console(job)
    provider.cancel([job])


def test_foreign_instances_are_left_alone(cloud: FakeEc2, provide: Provide) -> None:
    """Instances of others, and of another run of flowlib, are neither listed nor ended."""
    provider, other = provide(), provide()
    foreign = ec2(cloud, "run_instances", ImageId=IMAGE, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    theirs, job = other.submit("true", 1, "job"), provider.submit("true", 1, "job")
    assert provider.cancel([foreign, theirs]) == [False, False]
    assert [status.state for status in provider.status([foreign, theirs])] == [JobState.MISSING] * 2
    assert provider.cancel([job]) == [True]
    assert states(cloud) == {foreign: "running", theirs: "running", job: "terminated"}
    assert other.cancel([theirs]) == [True]


def test_one_query_and_one_order_for_many(cloud: FakeEc2, provide: Provide) -> None:
    """Many instances are asked for by one call, and terminated by one."""
    provider = provide()
    jobs = [provider.submit("true", 1, f"job-{number}") for number in range(3)]
    cloud.actions.clear()
    provider.status(jobs)
    assert provider.cancel(jobs) == [True] * 3
    assert cloud.actions == ["DescribeInstances", "TerminateInstances"]


def test_network_is_made_once(cloud: FakeEc2, provide: Provide, tmp_path: Path) -> None:
    """All runs use one network, which the state file names and ``teardown`` removes."""
    provider, other = provide(state_file=str(tmp_path / "state.json")), provide()
    jobs = [provider.submit("true", 1), other.submit("true", 1)]
    vpcs = ec2(cloud, "describe_vpcs", Filters=[{"Name": "tag:flowlib:network", "Values": ["default"]}])["Vpcs"]
    assert len(vpcs) == 1
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["vpcID"] == vpcs[0]["VpcId"] and state["instances"] == [jobs[0]]
    cloud.actions.clear()
    third = provide(state_file=str(tmp_path / "state.json"))
    assert third.cancel([third.submit("true", 1)]) == [True]
    assert cloud.actions == ["RunInstances", "TerminateInstances"]
    provider.cancel(jobs[:1])
    other.cancel(jobs[1:])
    provider.teardown()
    vpcs = ec2(cloud, "describe_vpcs", Filters=[{"Name": "tag:flowlib:network", "Values": ["default"]}])["Vpcs"]
    assert vpcs == []


def test_spot_interruption(cloud: FakeEc2, provide: Provide) -> None:
    """A spot instance is asked for at the given price; that EC2 took it back is named as the end of its block."""
    provider = provide(spot_max_bid=0.05)
    job = provider.submit("true", 1)
    until(provider, job, JobState.RUNNING)
    cloud.replace = {"Client.UserInitiatedShutdown": "Server.SpotInstanceTermination"}
    ec2(cloud, "terminate_instances", InstanceIds=[job])
    status = until(provider, job)
    assert status.state is JobState.FAILED
    assert "spot interruption" in str(status.message)


def test_ended_from_outside(cloud: FakeEc2, provide: Provide) -> None:
    """An instance that somebody else ended is no error of ours, and is told as what it is."""
    provider = provide()
    job = provider.submit("true", 1)
    ec2(cloud, "terminate_instances", InstanceIds=[job])
    status = until(provider, job)
    assert status.state is JobState.CANCELLED
    assert "somebody else" in str(status.message)


@pytest.mark.parametrize(
    ("code", "status", "retryable"),
    [
        ("InvalidAMIID.NotFound", 400, False),
        ("UnauthorizedOperation", 403, False),
        ("InstanceLimitExceeded", 400, True),
        ("RequestLimitExceeded", 503, True),
    ],
)
def test_submit_is_refused(cloud: FakeEc2, provide: Provide, code: str, status: int, retryable: bool) -> None:
    """A refusal has EC2's words, says whether it may pass, and is not asked again behind the caller's back."""
    provider = provide()
    cloud.fail("RunInstances", code, status)
    with pytest.raises(SubmitException, match=code) as caught:
        provider.submit("true", 1)
    assert caught.value.retryable is retryable
    assert cloud.actions.count("RunInstances") == 1


def test_wrong_image(cloud: FakeEc2, provide: Provide) -> None:
    """An image that is not in the region is refused by the server itself, with a remedy."""
    with pytest.raises(SubmitException, match="images belong to one region") as caught:
        provide(image_id="ami-0123456789abcdef0").submit("true", 1)
    assert caught.value.retryable is False


def test_no_capacity_in_one_zone(cloud: FakeEc2, provide: Provide) -> None:
    """Where one zone has no machine, the next one is asked; if none has one, it may pass."""
    provider = provide()
    cloud.fail("RunInstances", "InsufficientInstanceCapacity", 500)
    job = provider.submit("true", 1)
    assert cloud.actions.count("RunInstances") == 2
    assert provider.cancel([job]) == [True]
    for _ in range(20):
        cloud.fail("RunInstances", "InsufficientInstanceCapacity", 500)
    with pytest.raises(SubmitException, match="InsufficientInstanceCapacity") as caught:
        provider.submit("true", 1)
    assert caught.value.retryable is True


@pytest.mark.parametrize("done", [True, False])
def test_lost_answer_makes_one_instance(cloud: FakeEc2, provide: Provide, done: bool) -> None:
    """Whether or not a request whose answer was lost did its work, there is one instance in the end."""
    provider = provide()
    other = provider.submit("true", 1, "first")
    cloud.drop("RunInstances", done=done)
    job = provider.submit("true", 1, "job")
    assert until(provider, job, JobState.RUNNING).state is JobState.RUNNING
    assert len(states(cloud)) == 2
    assert provider.cancel([job, other]) == [True, True]
    assert set(states(cloud).values()) == {"terminated"}


def test_cancel_while_it_is_not_known_whether_it_exists(cloud: FakeEc2, provide: Provide) -> None:
    """An instance whose request got no answer is found by its tag and ended."""
    provider = provide()
    first = provider.submit("true", 1, "first")
    cloud.drop("RunInstances", done=True)
    job = provider.submit("true", 1, "job")
    assert provider.cancel([first, job]) == [True, True]
    assert set(states(cloud).values()) == {"terminated"}


def test_failed_query_says_nothing(cloud: FakeEc2, provide: Provide) -> None:
    """A query that is refused or not answered raises; the instance is as alive as before."""
    provider = provide()
    job = provider.submit("true", 1)
    cloud.fail("DescribeInstances", "RequestLimitExceeded", 503)
    with pytest.raises(ExecutionProviderException, match="RequestLimitExceeded"):
        provider.status([job])
    cloud.drop("DescribeInstances", done=False)
    with pytest.raises(ExecutionProviderException, match="did not answer"):
        provider.status([job])
    assert until(provider, job, JobState.RUNNING).state is JobState.RUNNING
    cloud.replace = {f"<instanceId>{job}</instanceId>": "<instanceId>i-0</instanceId>"}
    assert provider.status([job])[0].state is JobState.RUNNING, "EC2's lists are behind"
    cloud.replace = {}
    provider.cancel([job])


def test_linger(cloud: FakeEc2, provide: Provide) -> None:
    """Instances that are to stay are not ended, and say so."""
    provider = provide(linger=True)
    job = provider.submit("true", 1)
    assert provider.cancel([job]) == [False]
    assert states(cloud) == {job: "running"}
    assert "shutdown" not in cloud.scripts[job]


def test_script_too_long(cloud: FakeEc2, provide: Provide) -> None:
    """A start-up script that EC2 would refuse is refused with what to do, before anything is asked."""
    with pytest.raises(SubmitException, match="shorten worker_init") as caught:
        provide(worker_init="#" * 20_000).submit("true", 1)
    assert caught.value.retryable is False
    assert cloud.actions == []


def test_constructor_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a provider needs no boto3 and no account; a submit without boto3 names the extra."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    provider = AWSProvider("ami-1", key_file="/nowhere")
    assert "shutdown -h +60" in provider.render_script("true")
    with pytest.raises(OptionalModuleMissing, match=r"flowlib\[aws\]"):
        provider.submit("true", 1)


def test_credentials(tmp_path: Path, cloud: FakeEc2, provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file is read when it is needed; one that is not there, and no credentials at all, are named."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"AWSAccessKeyId": "a", "AWSSecretKey": "b"}))
    provider = provide(key_file=str(path))
    assert provider.cancel([provider.submit("true", 1)]) == [True]
    with pytest.raises(ConfigurationError, match="nowhere"):
        provide(key_file="/nowhere").submit("true", 1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ConfigurationError, match="no credentials"):
        provide().submit("true", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_id": ""}, "image_id="),
        ({"nodes_per_block": 2}, "one instance"),
        ({"spot_max_bid": -1}, "spot_max_bid=-1"),
        ({"walltime": "soon"}, "walltime"),
        ({"security_group_ids": ["sg-1"]}, "subnet_id"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    """What makes no sense is refused where it is given, by name."""
    with pytest.raises(ConfigurationError, match=words):
        AWSProvider(**{"image_id": "x", **arguments})


# ------------------------------------------------------------------------------------------------------------ whole runs


@flowlib.python_app
def which_instance(seconds: float = 0.0) -> str:
    """The instance on which a task runs."""
    import os
    import time

    time.sleep(seconds)
    return os.environ["INSTANCE"]


def executor(provider: AWSProvider, **settings: Any) -> HighThroughputExecutor:
    """One for tests: one worker on each instance, impatient, reached on the loopback address."""
    provider.script_dir = None
    settings = {"max_workers_per_node": 1, "heartbeat_period": 1, "heartbeat_threshold": 10, **settings}
    return HighThroughputExecutor(label="cloud", provider=provider, address="127.0.0.1", **settings)


@pytest.mark.slow
def test_run_on_instances(
    cloud: FakeEc2, provide: Provide, load: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks run on instances, an interruption costs none, and what stands in the start-up data is void by then."""
    from flowlib.executors.high_throughput.block import read_block
    from flowlib.executors.high_throughput.exchange import exchange

    cloud.run_scripts = True
    kernel = load(executor(provide(init_blocks=1, max_blocks=2)), retries=0)
    first = which_instance().result(timeout=30)
    assert first in cloud.scripts

    # Somebody reads the start-up data.
    packed = re.search(
        r'<<"END" \| gunzip >"\$FLOWLIB_BLOCK_DIR/block.json"\n(.*?)\nEND\n', cloud.scripts[first], re.DOTALL
    )
    assert packed is not None
    monkeypatch.setenv("FLOWLIB_LOGDIR", str(tmp_path))
    path = tmp_path / "stolen.json"
    path.write_bytes(gzip.decompress(base64.b64decode(packed[1])))
    block = read_block(str(path))
    assert block.once and block.client_secret
    block.address_probe_timeout = 1
    with pytest.raises(ValueError, match="used before"):
        exchange(block)

    # The interchange dies; the next one lets in the manager with its own key.
    session = kernel.executors["cloud"]._session
    os.kill(session.client.pid, signal.SIGKILL)
    assert which_instance().result(timeout=40) == first
    with pytest.raises(ValueError, match="used before"):
        exchange(block)

    futures = [which_instance(0.2) for _ in range(20)]
    futures[0].result(timeout=30)
    cloud.replace = {"Client.UserInitiatedShutdown": "Server.SpotInstanceTermination"}
    cloud.kill(first)
    ec2(cloud, "terminate_instances", InstanceIds=[first])
    results = [future.result(timeout=40) for future in futures]
    assert results[-1] != first
    kernel.cleanup()
    assert set(states(cloud).values()) == {"terminated"}
