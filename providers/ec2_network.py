"""The network in which instances stand where nobody gives them one: made once in a region, found again by its tag."""

from __future__ import annotations

from flowlib.providers.ec2 import NETWORK, Json
from flowlib.providers.ec2_client import Ec2Client, Ec2Unreachable


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
