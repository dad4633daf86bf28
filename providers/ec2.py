"""What a block looks like to EC2, and what EC2 says of it: scripts, requests, states and refusals as plain data."""

from __future__ import annotations

import base64
import gzip
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowlib.jobs.states import JobState
from flowlib.providers.watched_init import watched

Json = dict[str, Any]

RUN = "flowlib:run"
"""Tag of all that one provider made: a token that nobody else has."""
BLOCK = "flowlib:block"
"""Tag with the block's name."""
NETWORK = "flowlib:network"
"""Tag of a network that flowlib made, for all runs."""
USER_DATA_MOST = 16 * 1024
"""Bytes that a start-up script may have."""
_LINE = 76

_PASSING = {
    "BandwidthLimitExceeded",
    "InstanceLimitExceeded",
    "InsufficientAddressCapacity",
    "InsufficientCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientHostCapacity",
    "InsufficientInstanceCapacity",
    "InsufficientReservedInstanceCapacity",
    "InternalError",
    "InternalFailure",
    "MaxSpotInstanceCountExceeded",
    "PendingVerification",
    "RequestLimitExceeded",
    "RequestResourceCountExceeded",
    "ResourceCountExceeded",
    "ServiceUnavailable",
    "SpotMaxPriceTooLow",
    "Throttling",
    "ThrottlingException",
    "Unavailable",
    "VcpuLimitExceeded",
    "VolumeLimitExceeded",
}
"""Refusals that may pass by themselves."""
_NO_ROOM = {"InsufficientInstanceCapacity", "InsufficientFreeAddressesInSubnet", "InsufficientHostCapacity"}
"""Refusals that another zone may not have."""
_REMEDIES = {
    "AuthFailure": "check the credentials: `aws sts get-caller-identity` must work",
    "UnauthorizedOperation": "the account needs ec2:RunInstances, ec2:DescribeInstances, ec2:TerminateInstances and "
    "ec2:CreateTags, and, without subnet_id, the rights to make a network",
    "ExpiredToken": "log in again",
    "RequestExpired": "log in again, and check this machine's clock",
    "OptInRequired": "subscribe to the image, or switch the region on",
    "InvalidAMIID.NotFound": "images belong to one region; give one of this region",
    "InvalidAMIID.Malformed": "give an id such as 'ami-0123456789abcdef0'",
    "InvalidKeyPair.NotFound": "key pairs belong to one region; give one of this region",
}


@dataclass(frozen=True)
class Ec2Refusal:
    """Why EC2 did not do something.

    Attributes:
        why: In words.
        retryable: Whether asking again can help.
        elsewhere: Whether another zone may have room.
    """

    why: str
    retryable: bool
    elsewhere: bool = False


@dataclass(frozen=True)
class InstanceSeen:
    """What EC2 says of an instance.

    Attributes:
        state: The state.
        reason: How it ended; "" where there is nothing to say.
        id: Which one.
    """

    state: JobState
    reason: str = ""
    id: str = ""


@dataclass(frozen=True)
class MachineShape:
    """What all instances of a provider have in common; see ``AWSProvider`` for each."""

    image_id: str
    instance_type: str
    key_name: str | None
    security_groups: Sequence[str]
    profile_arn: str = ""
    spot_max_bid: float = 0
    tags: Sequence[tuple[str, str]] = ()


def start_script(
    body: str,
    files: Mapping[str, bytes],
    *,
    job_name: str,
    worker_init: str,
    python: str | None,
    walltime_s: float,
    linger: bool,
) -> str:
    """The script that an instance runs when it starts.

    It is kept by EC2, where others may read it; what is private in it must be void after its first use.

    Args:
        body: Starts the managers, and waits for them.
        files: Private files of the block.
        job_name: The block's name.
        worker_init: Shell text that runs before.
        python: The Python to use; None for the ``python3`` on the PATH.
        walltime_s: Seconds after which the instance ends, whatever runs there.
        linger: Whether the instance stays when the managers have ended.
    """
    lines = ["#!/bin/bash", "umask 077", f"export JOBNAME={shlex.quote(job_name)}"]
    # The machine itself sees to its end: this script's driver may be gone by then.
    lines += [] if linger else [f"shutdown -h +{max(1, round(walltime_s / 60))}"]
    lines += ['export HOME="${HOME:-/root}"', 'export FLOWLIB_BLOCK_DIR="$(mktemp -d)"']
    for name, content in files.items():
        packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
        lines.append(f'base64 -d <<"END" | gunzip >"$FLOWLIB_BLOCK_DIR/{name}"')
        lines += [packed[start : start + _LINE] for start in range(0, len(packed), _LINE)]
        lines.append("END")
    wanted = shlex.quote(python) if python else '"$(command -v python3)"'
    lines += [
        'export FLOWLIB_LOGDIR="$(mktemp -d)"',
        'cd "$(mktemp -d)"',
        *watched(worker_init),
        f"export FLOWLIB_PYTHON={wanted}",
        '[ -n "$FLOWLIB_PYTHON" ] || echo "flowlib: the image has no python3 on its PATH" >&2',
        "(",
        body,
        ")",
        "code=$?",
        # The console's output can be read after the machine is gone; its logs cannot.
        '[ "$code" -eq 0 ] || find "$FLOWLIB_LOGDIR" -name "*.log" -exec tail -n 50 {} + >&2',
        'echo "flowlib: exit code $code" >&2',
    ]
    lines += [] if linger else ["shutdown -c 2>/dev/null", "shutdown -h now"]
    return "\n".join(lines) + "\n"


def run_request(name: str, run: str, job_name: str, script: str, shape: MachineShape, subnet: str) -> Json:
    """The request for one instance.

    Args:
        name: Unique; makes the request the same one if it is sent again.
        run: See ``RUN``.
        job_name: The block's name.
        script: What it runs when it starts.
        shape: What all instances have in common.
        subnet: Where it stands.
    """
    tags = [{"Key": key, "Value": value} for key, value in (*tags_of(run, job_name), *shape.tags)]
    network: Json = {"DeviceIndex": 0, "SubnetId": subnet, "DeleteOnTermination": True}
    if shape.security_groups:
        network["Groups"] = list(shape.security_groups)
    request: Json = {
        "ClientToken": name,
        "ImageId": shape.image_id,
        "InstanceType": shape.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": script,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "NetworkInterfaces": [network],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }
    if shape.key_name:
        request["KeyName"] = shape.key_name
    if shape.profile_arn:
        request["IamInstanceProfile"] = {"Arn": shape.profile_arn}
    if shape.spot_max_bid:
        options = {"MaxPrice": f"{shape.spot_max_bid:g}", "SpotInstanceType": "one-time"}
        request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
    return request


def tags_of(run: str, job_name: str) -> list[tuple[str, str]]:
    """The tags of what belongs to a block."""
    return [("Name", job_name[:255]), (RUN, run), (BLOCK, job_name[:255])]


def own(run: str, job_name: str | None = None) -> list[Json]:
    """The filters that find what belongs to a run, or to one of its blocks."""
    filters: list[Json] = [{"Name": f"tag:{RUN}", "Values": [run]}]
    if job_name is not None:
        filters.append({"Name": f"tag:{BLOCK}", "Values": [job_name[:255]]})
    return filters


def read_instance(instance: Json) -> InstanceSeen:
    """What EC2 says of an instance.

    Example:
        >>> read_instance({"InstanceId": "i-1", "State": {"Name": "running"}}).state
        <JobState.RUNNING: 2>
    """
    id_ = str(instance.get("InstanceId", ""))
    name = str((instance.get("State") or {}).get("Name", "pending"))
    if name == "pending":
        return InstanceSeen(JobState.PENDING, "is starting", id_)
    if name == "running":
        return InstanceSeen(JobState.RUNNING, "", id_)
    cause: Json = instance.get("StateReason") or {}
    code = str(cause.get("Code") or "")
    said = str(cause.get("Message") or instance.get("StateTransitionReason") or "")
    if code in ("Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"):
        return InstanceSeen(JobState.FAILED, f"spot interruption: EC2 took the instance back ({said})", id_)
    if code == "Client.InstanceInitiatedShutdown":
        return InstanceSeen(JobState.COMPLETED, "it shut itself down", id_)
    if code == "Client.UserInitiatedShutdown" or name in ("stopping", "stopped"):
        return InstanceSeen(JobState.CANCELLED, f"somebody else ended the instance ({said or name})", id_)
    if code.startswith(("Server.", "Client.")):
        return InstanceSeen(JobState.FAILED, f"EC2 ended the instance: {said or code}", id_)
    return InstanceSeen(JobState.CANCELLED, f"the instance was ended from outside{f' ({said})' if said else ''}", id_)


def read_ec2_refusal(code: str, message: str, status: int) -> Ec2Refusal:
    """Why EC2 refused something.

    Args:
        code: The word for programs.
        message: For people.
        status: The HTTP status code.

    Example:
        >>> read_ec2_refusal("InsufficientInstanceCapacity", "none left", 500)
        Ec2Refusal(why='InsufficientInstanceCapacity: none left', retryable=True, elsewhere=True)
    """
    remedy = _REMEDIES.get(code)
    why = f"{code}: {message}" + (f"; {remedy}" if remedy else "")
    return Ec2Refusal(why, code in _PASSING or (status >= 500 and code not in _REMEDIES), code in _NO_ROOM)
