"""Drives the local cloud's EC2, STS, price list and CloudWatch Logs with boto3, the vendor's own client: launch, describe,
tag, page, refuse, end; volumes and network interfaces; reservations, Capacity Blocks, Spot Instances and prices; log groups, streams and events.

Needs boto3 from PyPI. Prints one line for each thing it checked; exit code 1 if any did not hold.

    boto3_check.py --endpoint http://127.0.0.1:4566
"""

import argparse
import base64
import json
import sys
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

FAILED = []


def check(what, holds, seen=""):
    print(f"{'ok  ' if holds else 'FAIL'} {what}" + ("" if holds else f": {seen}"), flush=True)
    if not holds:
        FAILED.append(what)


def refused(what, code, call, *args, **kwargs):
    """`call` must be refused with this code."""
    try:
        call(*args, **kwargs)
        check(what, False, "was accepted")
    except ClientError as error:
        seen = error.response["Error"]["Code"]
        check(f"{what} -> {code}", seen == code, f"{seen}: {error.response['Error']['Message']}")


def until(what, holds, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return check(what, True)
        time.sleep(0.1)
    return check(what, False, f"not within {seconds} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    endpoint = parser.parse_args().endpoint

    def client(service, key="test", secret="test"):
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
        )

    ec2 = client("ec2")
    with urllib.request.urlopen(f"{endpoint}/_local/world") as answer:
        world = json.load(answer)
    # The first zone's second subnet is nobody else's, so that its free addresses can be counted.
    subnet = [one["id"] for one in world["subnets"] if one["zone"] == "us-east-1a"][1]
    group, image = world["security_groups"][1]["id"], world["images"][0]["id"]

    identity = client("sts").get_caller_identity()
    check("STS says who calls", identity["Account"] == world["account"], identity)
    refused("a wrong secret", "SignatureDoesNotMatch", client("ec2", secret="wrong").describe_vpcs)
    refused("an unknown key", "AuthFailure", client("ec2", key="nobody").describe_vpcs)
    refused("an unknown key at STS", "InvalidClientTokenId", client("sts", key="nobody").get_caller_identity)

    catalog(ec2, world)
    prices(ec2, client("pricing"))
    logs(client("logs"))
    refused("an unknown key at Logs", "UnrecognizedClientException", client("logs", key="nobody").describe_log_groups)

    free = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]
    mark = f"check-{time.time_ns()}"
    tags = [{"Key": "Name", "Value": "a <b> & \"c\" ü"}, {"Key": "mark", "Value": mark}]
    kinds = ["instance", "volume", "network-interface"]
    launch = {
        "ImageId": image,
        "InstanceType": "t3.medium",
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": mark,
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet,
                "Groups": [group],
                "SecondaryPrivateIpAddressCount": 1,
                "DeleteOnTermination": True,
            }
        ],
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"VolumeSize": 50, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
            }
        ],
        "IamInstanceProfile": {"Name": world["instance_profiles"][0]},
        "UserData": "#cloud-boothook\n",
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in kinds],
    }
    refused("a dry run", "DryRunOperation", ec2.run_instances, DryRun=True, **launch)
    made = ec2.run_instances(**launch)["Instances"][0]
    name = made["InstanceId"]
    check("a launch is pending", made["State"] == {"Code": 0, "Name": "pending"}, made["State"])
    check("it has our token and tags", made["ClientToken"] == mark and sorted_tags(made) == sorted_tags({"Tags": tags}), made)
    addresses = made["NetworkInterfaces"][0]["PrivateIpAddresses"]
    check(
        "it has a primary and a secondary address",
        [address["Primary"] for address in addresses] == [True, False]
        and addresses[0]["PrivateIpAddress"] == made["PrivateIpAddress"],
        addresses,
    )
    again = ec2.run_instances(**launch)["Instances"]
    check("the same call again makes no second one", [one["InstanceId"] for one in again] == [name], again)
    refused("its token with other parameters", "IdempotentParameterMismatch", ec2.run_instances, **{**launch, "InstanceType": "t3.micro"})
    left = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]
    check("two addresses are gone from the subnet", free - left == 2, (free, left))

    ec2.get_waiter("instance_running").wait(InstanceIds=[name], WaiterConfig={"Delay": 1})
    check("boto3's waiter sees it running", True)
    one = ec2.describe_instances(Filters=[{"Name": "tag:mark", "Values": [mark]}])["Reservations"][0]["Instances"][0]
    check("a tag filter finds it", one["InstanceId"] == name and one["State"]["Code"] == 16, one)
    by_token = ec2.describe_instances(Filters=[{"Name": "client-token", "Values": [mark]}])
    check("its token finds it", len(by_token["Reservations"]) == 1, by_token)
    ec2.get_waiter("instance_status_ok").wait(InstanceIds=[name], WaiterConfig={"Delay": 1})
    check("boto3's waiter sees its checks pass", True)
    console = ec2.get_console_output(InstanceId=name, Latest=True)
    check("its console is answered", console["InstanceId"] == name and isinstance(console.get("Output", ""), str), console)

    ec2.create_tags(Resources=[name], Tags=[{"Key": "host-key", "Value": "ssh-ed25519 AAAA+/="}])
    seen = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [name]}])["Tags"]
    check("a new tag is described", {"host-key", "mark", "Name"} == {tag["Key"] for tag in seen}, seen)
    volume = one["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    seen = ec2.describe_tags(Filters=[{"Name": "resource-type", "Values": ["volume"]}, {"Name": "value", "Values": [mark]}])
    check("its volume was tagged at launch", [tag["ResourceId"] for tag in seen["Tags"]] == [volume], seen)

    devices(ec2, launch, endpoint, mark, name)
    refusals(ec2, launch, subnet, name)
    pages(ec2, launch, mark)
    market(ec2, launch, endpoint, mark)

    ended = ec2.terminate_instances(InstanceIds=[name])["TerminatingInstances"][0]
    check("ending it is shutting down", ended["CurrentState"]["Name"] == "shutting-down", ended)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[name], WaiterConfig={"Delay": 1})
    one = ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]
    check("it stays visible, with a reason and no address", one["StateReason"]["Code"] == "Client.UserInitiatedShutdown" and "PrivateIpAddress" not in one, one)
    again = ec2.terminate_instances(InstanceIds=[name])["TerminatingInstances"][0]
    check("ending it again does nothing", again["PreviousState"]["Name"] == "terminated", again)
    refused("the token of a terminated instance", "IdempotentInstanceTerminated", ec2.run_instances, **launch)
    until(
        "its addresses are free again",
        lambda: ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"] == free,
    )

    print(f"{len(FAILED)} failed")
    return 1 if FAILED else 0


def sorted_tags(instance):
    return sorted((tag["Key"], tag["Value"]) for tag in instance["Tags"])


def catalog(ec2, world):
    types = ec2.describe_instance_types(InstanceTypes=["g5.12xlarge", "m7g.large"])["InstanceTypes"]
    gpu = types[0]["GpuInfo"]["Gpus"][0]
    check("a GPU type has its figures", (types[0]["VCpuInfo"]["DefaultVCpus"], gpu["Count"], gpu["Name"]) == (48, 4, "A10G"), types[0])
    check("an arm64 type says so", types[1]["ProcessorInfo"]["SupportedArchitectures"] == ["arm64"], types[1])
    refused("an unknown type", "InvalidInstanceType", ec2.describe_instance_types, InstanceTypes=["x9.huge"])
    offers = ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["p5.48xlarge"]}]
    )["InstanceTypeOfferings"]
    check("p5 is offered in one zone", [offer["Location"] for offer in offers] == ["us-east-1b"], offers)
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    check("zones have their ids", {zone["ZoneName"]: zone["ZoneId"] for zone in zones}["us-east-1a"] == "use1-az1", zones)
    vpcs = ec2.describe_vpcs(VpcIds=[world["vpc"]["id"]])["Vpcs"]
    check("the VPC is there", vpcs[0]["CidrBlock"] == "10.88.0.0/16", vpcs)
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["orca"]}])["SecurityGroups"]
    check("the security group is found by name", len(groups) == 1, groups)
    images = ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "architecture", "Values": ["arm64"]}])["Images"]
    check("the arm64 image has a root device", [image["RootDeviceName"] for image in images] == ["/dev/xvda"], images)


def refusals(ec2, launch, subnet, name):
    run = ec2.run_instances
    base = {key: value for key, value in launch.items() if key != "ClientToken"}
    interface = launch["NetworkInterfaces"][0]
    refused("a malformed image", "InvalidAMIID.Malformed", run, **{**base, "ImageId": "ami-xyz"})
    refused("a missing image", "InvalidAMIID.NotFound", run, **{**base, "ImageId": "ami-00000000000000000"})
    refused("an unknown type", "InvalidParameterValue", run, **{**base, "InstanceType": "x9.huge"})
    refused("a type of another architecture", "InvalidParameterValue", run, **{**base, "InstanceType": "m7g.large"})
    refused("a type that the zone has not", "Unsupported", run, **{**base, "InstanceType": "p5.48xlarge"})
    refused("a subnet beside an interface", "InvalidParameterCombination", run, SubnetId=subnet, **base)
    refused("a missing subnet", "InvalidSubnetID.NotFound", run, **{**base, "NetworkInterfaces": [{**interface, "SubnetId": "subnet-00000000"}]})
    refused("a missing group", "InvalidGroup.NotFound", run, **{**base, "NetworkInterfaces": [{**interface, "Groups": ["sg-00000000"]}]})
    refused("an unknown profile", "InvalidParameterValue", run, **{**base, "IamInstanceProfile": {"Name": "nobody"}})
    refused("a root volume that is too small", "InvalidBlockDeviceMapping", run, **{**base, "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8}}]})
    refused("user data that is too long", "InvalidUserData.Malformed", run, **{**base, "UserData": "x" * 16385})
    refused("a reserved tag", "InvalidParameterValue", run, **{**base, "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "aws:x", "Value": ""}]}]})
    refused("a malformed instance", "InvalidInstanceID.Malformed", ec2.describe_instances, InstanceIds=["i-xyz"])
    refused("a missing instance", "InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=["i-00000000000000000"])
    refused("one missing of two to end", "InvalidInstanceID.NotFound", ec2.terminate_instances, InstanceIds=[name, "i-00000000000000000"])
    refused("an unknown filter", "InvalidParameterValue", ec2.describe_instances, Filters=[{"Name": "colour", "Values": ["red"]}])
    refused("ids beside MaxResults", "InvalidParameterCombination", ec2.describe_instances, InstanceIds=[name], MaxResults=10)
    refused("too small a page", "InvalidParameterValue", ec2.describe_instances, MaxResults=4)
    refused("a foreign token", "InvalidNextToken", ec2.describe_instances, NextToken=base64.b64encode(b"x").decode())
    refused("an action that is not played", "InvalidAction", ec2.describe_key_pairs)
    state = ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]["State"]["Name"]
    check("the refused end ended nothing", state == "running", state)


def devices(ec2, launch, endpoint, mark, name):
    """Volumes and network interfaces: of an instance, left behind by one, deleted."""
    of = [{"Name": "attachment.instance-id", "Values": [name]}]
    volume = ec2.describe_volumes(Filters=of)["Volumes"][0]
    figures = (volume["State"], volume["Size"], volume["VolumeType"], volume["Iops"], volume["Throughput"], volume["Encrypted"])
    check("a volume has its figures", figures == ("in-use", 50, "gp3", 3000, 125, True), volume)
    check("it has its attachment", [(one["InstanceId"], one["Device"], one["DeleteOnTermination"]) for one in volume["Attachments"]] == [(name, "/dev/xvda", True)], volume)
    interface = ec2.describe_network_interfaces(Filters=of)["NetworkInterfaces"][0]
    figures = (interface["Status"], interface["InterfaceType"], len(interface["PrivateIpAddresses"]), interface["Attachment"]["DeviceIndex"])
    check("an interface has its figures", figures == ("in-use", "interface", 2, 0), interface)
    check("both have the tags of the launch", all({"Key": "mark", "Value": mark} in tags for tags in (volume["Tags"], interface["TagSet"])), (volume, interface))
    refused("deleting a volume in use", "VolumeInUse", ec2.delete_volume, VolumeId=volume["VolumeId"])
    refused("deleting an interface in use", "InvalidParameterValue", ec2.delete_network_interface, NetworkInterfaceId=interface["NetworkInterfaceId"])
    refused("a missing volume", "InvalidVolume.NotFound", ec2.delete_volume, VolumeId="vol-00000000000000000")
    refused("a missing interface", "InvalidNetworkInterfaceID.NotFound", ec2.delete_network_interface, NetworkInterfaceId="eni-00000000000000000")

    # One that is told to keep its volume, and another that a fault makes leave its interface.
    base = {key: value for key, value in launch.items() if key != "ClientToken"}
    base["TagSpecifications"] = [{"ResourceType": kind, "Tags": [{"Key": "left", "Value": mark}]} for kind in ("volume", "network-interface")]
    kept = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20, "DeleteOnTermination": False}}]
    made = [ec2.run_instances(**{**base, **more})["Instances"][0]["InstanceId"] for more in ({"BlockDeviceMappings": kept}, {})]
    ec2.get_waiter("instance_running").wait(InstanceIds=made, WaiterConfig={"Delay": 1})
    request = urllib.request.Request(f"{endpoint}/_local/instances/{made[1]}/leave", b'{"volumes": false}', method="POST")
    urllib.request.urlopen(request).close()
    ec2.terminate_instances(InstanceIds=made)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=made, WaiterConfig={"Delay": 1})
    filters = [{"Name": "tag:left", "Values": [mark]}, {"Name": "status", "Values": ["available"]}]
    volumes = [one for page in ec2.get_paginator("describe_volumes").paginate(Filters=filters) for one in page["Volumes"]]
    interfaces = [one for page in ec2.get_paginator("describe_network_interfaces").paginate(Filters=filters) for one in page["NetworkInterfaces"]]
    left = ([(one["Size"], one["Attachments"]) for one in volumes], ["Attachment" in one for one in interfaces])
    check("one volume and one interface are left", left == ([(20, [])], [False]), (volumes, interfaces))
    volume, interface = volumes[0]["VolumeId"], interfaces[0]["NetworkInterfaceId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
    ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[interface], WaiterConfig={"Delay": 1})
    check("boto3's waiters see them available", True)
    ec2.delete_volume(VolumeId=volume)
    ec2.delete_network_interface(NetworkInterfaceId=interface)
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
    refused("an interface that is gone", "InvalidNetworkInterfaceID.NotFound", ec2.describe_network_interfaces, NetworkInterfaceIds=[interface])


def pages(ec2, launch, mark):
    more = {**launch, "ClientToken": f"{mark}-more", "MinCount": 12, "MaxCount": 12, "InstanceType": "t3.micro"}
    more["NetworkInterfaces"] = [{**launch["NetworkInterfaces"][0], "SecondaryPrivateIpAddressCount": 0}]
    made = [one["InstanceId"] for one in ec2.run_instances(**more)["Instances"]]
    paginator = ec2.get_paginator("describe_instances")
    filters = [{"Name": "tag:mark", "Values": [mark]}, {"Name": "instance-type", "Values": ["t3.micro"]}]
    found, count = [], 0
    for page in paginator.paginate(Filters=filters, PaginationConfig={"PageSize": 5}):
        count += 1
        found += [one["InstanceId"] for reservation in page["Reservations"] for one in reservation["Instances"]]
    check("three pages show twelve instances once each", count == 3 and sorted(found) == sorted(made), (count, found))
    ec2.terminate_instances(InstanceIds=made)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=made, WaiterConfig={"Delay": 1})


def prices(ec2, pricing):
    wanted = {"instanceType": "g5.xlarge", "regionCode": "us-east-1", "operatingSystem": "Linux", "tenancy": "Shared"}
    wanted |= {"capacitystatus": "Used", "preInstalledSw": "NA", "marketoption": "OnDemand"}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    found = [json.loads(one) for one in pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]]
    dimensions = [
        dimension["pricePerUnit"]["USD"]
        for one in found
        for term in one["terms"]["OnDemand"].values()
        for dimension in term["priceDimensions"].values()
    ]
    check("the price list has one price of a type", dimensions == ["1.0060000000"], found)
    count = sum(len(page["PriceList"]) for page in pricing.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters[1:]))
    check("the price list pages over every type", count > 100, count)
    refused("an unknown field of the price list", "InvalidParameterException", pricing.get_products, ServiceCode="AmazonEC2", Filters=[{"Type": "TERM_MATCH", "Field": "colour", "Value": "red"}])
    history = ec2.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=["g5.xlarge"], ProductDescriptions=["Linux/UNIX"], StartTime=time.time() - 1, PaginationConfig={"PageSize": 1}
    )
    zones = [one["AvailabilityZone"] for page in history for one in page["SpotPriceHistory"]]
    check("spot has one price of now in each zone", sorted(zones) == ["us-east-1a", "us-east-1b"], zones)
    types = [one for page in ec2.get_paginator("describe_instance_types").paginate() for one in page["InstanceTypes"]]
    by_name = {one["InstanceType"]: one for one in types}
    neuron = by_name["inf2.24xlarge"]["NeuronInfo"]["NeuronDevices"][0]
    part = by_name["g6f.large"]["GpuInfo"]["Gpus"][0]
    check("types page, with Neuron devices and parts of GPUs", (neuron["Count"], part["Count"], part["GpuPartitionSize"]) == (6, 0, 0.125), (neuron, part))


def logs(logs):
    group = {"logGroupName": f"/check/{time.time_ns()}"}
    stream = {**group, "logStreamName": "default/pod/uid/main/0"}
    other = {**group, "logStreamName": "default/pod/uid/side/0"}
    logs.create_log_group(**group, tags={"team": "a"})
    refused("the same log group", "ResourceAlreadyExistsException", logs.create_log_group, **group)
    refused("a name that is none", "InvalidParameterException", logs.create_log_group, logGroupName="a b")
    refused("a class that is not played", "InvalidParameterException", logs.create_log_group, logGroupName="b", logGroupClass="INFREQUENT_ACCESS")
    refused("a stream that is not there", "ResourceNotFoundException", logs.get_log_events, **stream)
    logs.create_log_stream(**stream)
    logs.create_log_stream(**other)

    logs.put_retention_policy(**group, retentionInDays=7)
    refused("a retention that is none", "InvalidParameterException", logs.put_retention_policy, **group, retentionInDays=6)
    seen = logs.describe_log_groups(logGroupNamePrefix=group["logGroupName"])["logGroups"]
    check("a log group is described with its retention", [one.get("retentionInDays") for one in seen] == [7], seen)
    arn = seen[0]["logGroupArn"]
    logs.tag_resource(resourceArn=arn, tags={"mark": "b c"})
    logs.untag_resource(resourceArn=arn, tagKeys=["team"])
    tags = logs.list_tags_for_resource(resourceArn=arn)["tags"]
    check("its tags are listed", tags == {"mark": "b c"}, tags)

    now, day = time.time_ns() // 1_000_000, 24 * 3600 * 1000
    events = [{"timestamp": now + n // 50, "message": f"ü {n}"} for n in range(250)]
    answer = logs.put_log_events(**stream, logEvents=events)
    check("events are put", "rejectedLogEventsInfo" not in answer, answer)
    refused("events of nine days at once", "InvalidParameterException", logs.put_log_events, **stream, logEvents=[{"timestamp": now - 9 * day, "message": "a"}, *events])
    old = {"timestamp": now - 15 * day, "message": "old"}
    answer = logs.put_log_events(**other, logEvents=[old, {"timestamp": now + 1, "message": "side"}])
    rejected = {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 1}
    check("an old event is rejected within a success", answer.get("rejectedLogEventsInfo") == rejected, answer)

    until("the events can be read", lambda: len(logs.filter_log_events(**group)["events"]) == 251)
    tail = logs.get_log_events(**stream, limit=10)
    texts = [one["message"] for one in tail["events"]]
    check("the latest come first", texts == [f"ü {n}" for n in range(240, 250)], texts)
    texts, page = [], logs.get_log_events(**stream, limit=60, startFromHead=True)
    while True:
        texts += [one["message"] for one in page["events"]]
        token = page["nextForwardToken"]
        page = logs.get_log_events(**stream, limit=60, startFromHead=True, nextToken=token)
        if page["nextForwardToken"] == token:
            break
    check("pages show every event once and in order", texts == [one["message"] for one in events], texts)
    pages = logs.get_paginator("filter_log_events").paginate(**group, startTime=now, PaginationConfig={"PageSize": 100})
    found = [(one["timestamp"], one["message"], one["eventId"]) for page in pages for one in page["events"]]
    check("all streams are filtered in the order of time", len(found) == 251 and found == sorted(found, key=lambda one: one[0]), found)
    check("every event has an id", len({event_id for _, _, event_id in found}) == 251, found)
    refused("a filter pattern", "InvalidParameterException", logs.filter_log_events, **group, filterPattern="ERROR")
    refused("a foreign token of events", "InvalidParameterException", logs.get_log_events, **stream, nextToken="f/1")

    seen = logs.describe_log_streams(**group, orderBy="LastEventTime", descending=True)["logStreams"]
    names = [one["logStreamName"] for one in seen]
    check("streams are ordered by their last event", names == [stream["logStreamName"], other["logStreamName"]], seen)
    refused("that order with a prefix", "InvalidParameterException", logs.describe_log_streams, **group, orderBy="LastEventTime", logStreamNamePrefix="d")
    names = [one["logStreamName"] for page in logs.get_paginator("describe_log_streams").paginate(**group, PaginationConfig={"PageSize": 1}) for one in page["logStreams"]]
    check("streams page", names == [stream["logStreamName"], other["logStreamName"]], names)
    logs.delete_retention_policy(**group)
    logs.delete_log_stream(**other)
    logs.delete_log_group(**group)
    refused("a group that is gone", "ResourceNotFoundException", logs.describe_log_streams, **group)


def market(ec2, launch, endpoint, mark):
    def control(method, path, body):
        request = urllib.request.Request(f"{endpoint}/_local/{path}", json.dumps(body).encode(), method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def run(**changes):
        base = {key: value for key, value in launch.items() if key != "ClientToken"}
        return ec2.run_instances(**{**base, **changes})["Instances"][0]

    def target(reservation):
        return {"CapacityReservationTarget": {"CapacityReservationId": reservation}}

    made = []
    digits = f"{time.time_ns():017x}"[-17:]
    reservation, block = f"cr-{digits}", f"cr-{'b' + digits[1:]}"
    control("PUT", f"reservations/{reservation}", {"instanceType": "m7i.xlarge", "zone": "us-east-1a", "total": 1, "matchCriteria": "targeted", "tags": {"mark": mark}})
    kind = {"InstanceType": "m7i.xlarge"}
    one = run(**kind, CapacityReservationSpecification=target(reservation))
    made.append(one["InstanceId"])
    check("a launch is in its reservation", one["CapacityReservationId"] == reservation, one)
    refused("a full reservation", "ReservationCapacityExceeded", run, **kind, CapacityReservationSpecification=target(reservation))
    refused("a missing reservation", "InvalidCapacityReservationId.NotFound", run, **kind, CapacityReservationSpecification=target("cr-00000000"))
    seen = ec2.describe_capacity_reservations(Filters=[{"Name": "tag:mark", "Values": [mark]}])["CapacityReservations"]
    figures = [(one["TotalInstanceCount"], one["AvailableInstanceCount"], one["State"], one["AvailabilityZoneId"]) for one in seen]
    check("the reservation is described", figures == [(1, 0, "active", "use1-az1")], seen)

    ends = {"startsInMs": 3_600_000, "endsInMs": 7_200_000}
    control("PUT", f"reservations/{block}", {"reservationType": "capacity-block", "instanceType": "p5.48xlarge", "zone": "us-east-1b", "total": 1, **ends})
    blocks = ec2.describe_capacity_blocks(CapacityBlockIds=[block.replace("cr-", "cb-")])["CapacityBlocks"]
    check("a Capacity Block is scheduled", [(one["State"], one["CapacityReservationIds"]) for one in blocks] == [("scheduled", [block])], blocks)
    here = {"InstanceType": "p5.48xlarge", "CapacityReservationSpecification": target(block)}
    here["NetworkInterfaces"] = [{**launch["NetworkInterfaces"][0], "SubnetId": ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1b"]}])["Subnets"][0]["SubnetId"]}]
    refused("a Capacity Block without its market", "InvalidParameterValue", run, **here)
    refused("a Capacity Block before its start", "InvalidCapacityReservationState.PendingActivation", run, **here, InstanceMarketOptions={"MarketType": "capacity-block"})

    spot = {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}}}
    one = run(**kind, **spot)
    made.append(one["InstanceId"])
    check("a Spot Instance says so", one["InstanceLifecycle"] == "spot" and one["SpotInstanceRequestId"].startswith("sir-"), one)
    low = {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.002"}}}
    refused("too low a price", "SpotMaxPriceTooLow", run, **kind, **low)
    refused("spot with a reservation", "InvalidParameterCombination", run, **kind, **spot, CapacityReservationSpecification=target(reservation))
    ec2.get_waiter("instance_running").wait(InstanceIds=made, WaiterConfig={"Delay": 1})
    control("POST", f"instances/{one['InstanceId']}/interrupt", {"notice_ms": 1000})
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[one["InstanceId"]], WaiterConfig={"Delay": 1})
    seen = ec2.describe_instances(InstanceIds=[one["InstanceId"]])["Reservations"][0]["Instances"][0]
    check("an interruption ends it", seen["StateReason"]["Code"] == "Server.SpotInstanceTermination", seen)
    control("DELETE", f"reservations/{reservation}", None)
    ec2.terminate_instances(InstanceIds=made)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=made, WaiterConfig={"Delay": 1})


if __name__ == "__main__":
    sys.exit(main())
