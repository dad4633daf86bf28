"""Instances as plain data: start-up scripts, requests, states, refusals; and keys that may be used once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.executors.high_throughput.tokens import Tokens
from flowlib.jobs.states import JobState
from flowlib.providers import ec2

SHAPE = ec2.MachineShape("ami-1", "t3.micro", "key", ["sg-1"], "arn:profile", 0.05, [("project", "x")])


def test_request_is_complete() -> None:
    """Image, type, key, profile, price, tags and network stand where EC2 wants them; the metadata need a token."""
    request = ec2.run_request("unique", "run", "job", "script", SHAPE, "subnet-1")
    assert request["ClientToken"] == "unique"
    assert (request["ImageId"], request["InstanceType"], request["KeyName"]) == ("ami-1", "t3.micro", "key")
    assert request["IamInstanceProfile"] == {"Arn": "arn:profile"}
    assert request["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"] == "0.05"
    assert request["NetworkInterfaces"][0]["SubnetId"] == "subnet-1"
    assert request["NetworkInterfaces"][0]["Groups"] == ["sg-1"]
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert request["MetadataOptions"]["HttpTokens"] == "required"
    assert (request["MinCount"], request["MaxCount"]) == (1, 1)
    tags = {tag["Key"]: tag["Value"] for tag in request["TagSpecifications"][0]["Tags"]}
    assert tags == {"Name": "job", ec2.RUN: "run", ec2.BLOCK: "job", "project": "x"}
    plain = ec2.run_request("unique", "run", "job", "script", ec2.MachineShape("ami-1", "t", None, []), "subnet-1")
    assert not {"KeyName", "IamInstanceProfile", "InstanceMarketOptions"} & plain.keys()


def script(**more: Any) -> str:
    """A start-up script."""
    given: dict[str, Any] = {"job_name": "job", "worker_init": "", "python": None, "walltime_s": 3600, "linger": False}
    return ec2.start_script("body", {"block.json": b"{}" * 100}, **{**given, **more})


def test_instance_ends_itself() -> None:
    """The machine is told its walltime first, and ends after its manager; one that lingers does neither."""
    lines = script(walltime_s=5400).splitlines()
    assert "shutdown -h +90" in lines[:5]
    assert lines[-1] == "shutdown -h now"
    assert "shutdown" not in script(linger=True)


@pytest.mark.parametrize(
    ("name", "code", "state", "words"),
    [
        ("pending", "", JobState.PENDING, "starting"),
        ("running", "", JobState.RUNNING, ""),
        ("terminated", "Client.InstanceInitiatedShutdown", JobState.COMPLETED, "itself"),
        ("shutting-down", "Client.UserInitiatedShutdown", JobState.CANCELLED, "somebody else"),
        ("stopped", "Client.UserInitiatedShutdown", JobState.CANCELLED, "somebody else"),
        ("terminated", "Server.SpotInstanceTermination", JobState.FAILED, "spot interruption"),
        ("terminated", "Server.InsufficientInstanceCapacity", JobState.FAILED, "EC2 ended"),
        ("terminated", "Client.VolumeLimitExceeded", JobState.FAILED, "EC2 ended"),
        ("terminated", "", JobState.CANCELLED, "from outside"),
    ],
)
def test_states(name: str, code: str, state: JobState, words: str) -> None:
    """Each state and cause of an instance is read as what it means for a block."""
    cause = {"StateReason": {"Code": code, "Message": "words"}} if code else {}
    seen = ec2.read_instance({"InstanceId": "i-1", "State": {"Name": name}, **cause})
    assert (seen.state, seen.id) == (state, "i-1")
    assert words in seen.reason


@pytest.mark.parametrize(
    ("code", "status", "retryable", "elsewhere"),
    [
        ("InsufficientInstanceCapacity", 500, True, True),
        ("InstanceLimitExceeded", 400, True, False),
        ("RequestLimitExceeded", 503, True, False),
        ("InvalidAMIID.NotFound", 400, False, False),
        ("UnauthorizedOperation", 403, False, False),
        ("AuthFailure", 401, False, False),
        ("InvalidParameterValue", 400, False, False),
        ("SomethingNew", 500, True, False),
    ],
)
def test_refusals(code: str, status: int, retryable: bool, elsewhere: bool) -> None:
    """What may pass by itself is told from what will not, and EC2's words are kept."""
    refusal = ec2.read_ec2_refusal(code, "words", status)
    assert (refusal.retryable, refusal.elsewhere) == (retryable, elsewhere)
    assert f"{code}: words" in refusal.why


@given(st.lists(st.tuples(st.sampled_from(["issue", "use"]), st.sampled_from("ab"), st.binary(min_size=1, max_size=1))))
def test_a_key_is_used_once(steps: list[tuple[str, str, bytes]]) -> None:
    """Whatever is issued and used in which order, each issued key leads to one new key at most."""
    tokens = Tokens()
    taken: dict[str, bytes] = {}
    issued: dict[str, bytes] = {}
    for number, (what, block, new) in enumerate(steps):
        if what == "issue":
            issued[block] = b"once %d" % number
            tokens.issue(block, issued[block])
            taken.pop(block, None)
            assert tokens.block_of(issued[block]) == block
        else:
            expected = block in issued and taken.get(block, new) == new
            assert tokens.exchange(block, new) is expected
            if expected:
                taken[block] = new
                assert tokens.block_of(issued[block]) is None, "void after its first use"
