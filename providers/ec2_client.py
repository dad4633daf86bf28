"""The few calls to EC2 that blocks need, by boto3, each with a deadline and without retries behind the caller's back.

boto3 is slow to import and not always installed, so it is first touched when the first call is made.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from flowlib.errors import ConfigurationError, OptionalModuleMissing
from flowlib.providers.ec2 import NETWORK, Json


class Ec2Error(Exception):
    """EC2 refused a call.

    Args:
        code: The word for programs.
        message: For people.
        status: HTTP status code.
    """

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Ec2Unreachable(Exception):
    """There was no answer; what was asked may have been done."""


class Ec2Client:
    """A connection to EC2 in one region.

    Args:
        region: The region.
        profile: Profile of the AWS configuration; None for the usual one.
        key_file: JSON file with ``AWSAccessKeyId`` and ``AWSSecretKey``; None for boto3's usual places.
        endpoint_url: Where EC2 is, for what only speaks like it; None for the real one.
        timeout: Seconds for each call.

    Raises:
        OptionalModuleMissing: boto3 is not installed.
        ConfigurationError: The credentials cannot be read.
    """

    def __init__(
        self, region: str, profile: str | None, key_file: str | None, endpoint_url: str | None, timeout: float
    ) -> None:
        try:
            import boto3
            import botocore.config
            import botocore.exceptions
            import botocore.session
        except ImportError as e:
            raise OptionalModuleMissing(["boto3"], "AWSProvider needs it; pip install 'flowlib[aws]'") from e
        settings = botocore.config.Config(
            connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1, "mode": "standard"}
        )
        try:
            core = botocore.session.get_session()
            core.register_component("data_loader", _descriptions())
            session = boto3.Session(botocore_session=core, profile_name=profile, region_name=region, **_keys(key_file))
            self._ec2: Any = session.client("ec2", config=settings, endpoint_url=endpoint_url)
        except botocore.exceptions.BotoCoreError as e:
            raise ConfigurationError(f"AWSProvider(profile={profile!r}, region={region!r}): {e}") from e

    def call(self, operation: str, **arguments: Any) -> Json:
        """One call.

        Args:
            operation: Its name in boto3: "run_instances" ...
            **arguments: As EC2 has them.

        Raises:
            Ec2Error: It was refused.
            Ec2Unreachable: It was not answered.
            ConfigurationError: There are no credentials.
        """
        import botocore.exceptions as b

        try:
            answer: Json = getattr(self._ec2, operation)(**arguments)
        except b.ClientError as e:
            error = e.response.get("Error", {})
            status = int(e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise Ec2Error(str(error.get("Code", "")), str(error.get("Message", "")), status) from None
        except (
            b.NoCredentialsError,
            b.PartialCredentialsError,
            b.CredentialRetrievalError,
            b.TokenRetrievalError,
        ) as e:
            raise ConfigurationError(
                f"AWSProvider has no credentials: {e}; make `aws sts get-caller-identity` work, or give profile="
            ) from e
        except b.ParamValidationError as e:
            raise Ec2Error("ParamValidation", str(e), 400) from None
        except (b.HTTPClientError, b.BotoCoreError) as e:
            raise Ec2Unreachable(f"EC2 did not answer: {e}") from e
        return answer

    def instances(self, filters: Sequence[Json]) -> list[Json]:
        """All instances that filters find, in as many calls as EC2 wants."""
        found: list[Json] = []
        page: Json = {}
        while True:
            answer = self.call("describe_instances", Filters=list(filters), **page)
            for reservation in answer.get("Reservations") or []:
                found += reservation.get("Instances") or []
            if not answer.get("NextToken"):
                return found
            page = {"NextToken": answer["NextToken"]}

    def close(self) -> None:
        """Close all connections."""
        self._ec2.close()


def make_network(client: Ec2Client, name: str) -> Json:
    """The network of that name, made if there is none.

    It has a subnet in each zone, a way out, and no way in: managers connect to their driver, nobody connects to them.
    It costs nothing and serves all runs.

    Returns:
        ``vpcID``, ``sgID`` and ``snIDs``.
    """
    found = find_network(client, name)
    if found is not None:
        return found

    def tagged(kind: str) -> list[Json]:
        tags = [{"Key": "Name", "Value": f"flowlib {name}"}, {"Key": NETWORK, "Value": name}]
        return [{"ResourceType": kind, "Tags": tags}]

    vpc = client.call("create_vpc", CidrBlock="10.0.0.0/16", TagSpecifications=tagged("vpc"))["Vpc"]["VpcId"]
    try:
        client.call("modify_vpc_attribute", VpcId=vpc, EnableDnsHostnames={"Value": True})
        gateway = client.call("create_internet_gateway", TagSpecifications=tagged("internet-gateway"))
        way_out = gateway["InternetGateway"]["InternetGatewayId"]
        client.call("attach_internet_gateway", InternetGatewayId=way_out, VpcId=vpc)
        of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
        main = [*of_vpc, {"Name": "association.main", "Values": ["true"]}]
        (table, *_) = client.call("describe_route_tables", Filters=main)["RouteTables"]
        client.call(
            "create_route", RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=way_out
        )
        zones = client.call("describe_availability_zones", Filters=[{"Name": "state", "Values": ["available"]}])
        for number, zone in enumerate(zones["AvailabilityZones"][:16]):
            if zone.get("ZoneType", "availability-zone") != "availability-zone":
                continue
            subnet = client.call(
                "create_subnet",
                VpcId=vpc,
                CidrBlock=f"10.0.{16 * number}.0/20",
                AvailabilityZone=zone["ZoneName"],
                TagSpecifications=tagged("subnet"),
            )["Subnet"]["SubnetId"]
            client.call("modify_subnet_attribute", SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
        client.call(
            "create_security_group",
            GroupName=f"flowlib-{name}",
            Description="Workers of flowlib: nobody connects to them",
            VpcId=vpc,
            TagSpecifications=tagged("security-group"),
        )
    except BaseException:
        remove_network(client, name)
        raise
    made = find_network(client, name)
    if made is None:
        raise Ec2Unreachable(f"the network {name!r} was made, and EC2 does not list it yet")
    return made


def find_network(client: Ec2Client, name: str) -> Json | None:
    """The network of that name, if it is there and complete."""
    tagged = [{"Name": f"tag:{NETWORK}", "Values": [name]}]
    vpcs = client.call("describe_vpcs", Filters=tagged)["Vpcs"]
    for vpc in sorted(str(found["VpcId"]) for found in vpcs):
        there = [*tagged, {"Name": "vpc-id", "Values": [vpc]}]
        subnets = client.call("describe_subnets", Filters=there)["Subnets"]
        groups = client.call("describe_security_groups", Filters=there)["SecurityGroups"]
        if subnets and groups:
            ids = sorted(str(found["SubnetId"]) for found in subnets)
            return {"vpcID": vpc, "sgID": str(groups[0]["GroupId"]), "snIDs": ids}
    return None


def remove_network(client: Ec2Client, name: str) -> None:
    """Remove the network of that name, as far as nobody uses it.

    Raises:
        Ec2Error: It is in use.
    """
    tagged = [{"Name": f"tag:{NETWORK}", "Values": [name]}]
    for subnet in client.call("describe_subnets", Filters=tagged)["Subnets"]:
        client.call("delete_subnet", SubnetId=subnet["SubnetId"])
    for group in client.call("describe_security_groups", Filters=tagged)["SecurityGroups"]:
        client.call("delete_security_group", GroupId=group["GroupId"])
    for gateway in client.call("describe_internet_gateways", Filters=tagged)["InternetGateways"]:
        id_ = gateway["InternetGatewayId"]
        for attachment in gateway.get("Attachments") or []:
            client.call("detach_internet_gateway", InternetGatewayId=id_, VpcId=attachment["VpcId"])
        client.call("delete_internet_gateway", InternetGatewayId=id_)
    for vpc in client.call("describe_vpcs", Filters=tagged)["Vpcs"]:
        client.call("delete_vpc", VpcId=vpc["VpcId"])


@functools.cache
def _descriptions() -> Any:
    """boto3's descriptions of services, of which EC2's takes a third of a second to read."""
    import botocore.loaders

    return botocore.loaders.create_loader()


def _keys(key_file: str | None) -> dict[str, str]:
    if key_file is None:
        return {}
    try:
        with open(key_file, encoding="utf-8") as file:
            found = json.load(file)
        return {
            "aws_access_key_id": found["AWSAccessKeyId"],
            "aws_secret_access_key": found["AWSSecretKey"],
        }
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigurationError(
            f"AWSProvider(key_file={key_file!r}): {type(e).__name__}: {e}; it must be a JSON file with AWSAccessKeyId "
            "and AWSSecretKey"
        ) from e
