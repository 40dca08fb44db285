"""What the vendor's own client takes for a read, without the start of Python: JSON with `ms`, `items` and `bytes`.

    timed.py instances ENDPOINT
    timed.py events ENDPOINT STREAM_PREFIX
"""

import json
import sys
import time

import boto3


def instances(endpoint):
    """All instances, page by page."""
    ec2 = boto3.client("ec2", endpoint_url=endpoint, region_name="us-east-1")
    begin = time.perf_counter()
    pages = ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000})
    found = sum(len(reservation["Instances"]) for page in pages for reservation in page["Reservations"])
    return {"ms": (time.perf_counter() - begin) * 1000, "items": found}


def events(endpoint, prefix):
    """All events of all streams with that prefix, page by page, kept in memory as a client would keep them."""
    logs = boto3.client("logs", endpoint_url=endpoint, region_name="us-east-1")
    (group,) = [group["logGroupName"] for group in logs.describe_log_groups(logGroupNamePrefix="/orca/")["logGroups"]]
    streams = logs.get_paginator("describe_log_streams").paginate(logGroupName=group, logStreamNamePrefix=prefix)
    names = [stream["logStreamName"] for page in streams for stream in page["logStreams"]]
    messages = []
    begin = time.perf_counter()
    for name in names:
        token = {}
        while True:
            page = logs.get_log_events(logGroupName=group, logStreamName=name, startFromHead=True, **token)
            messages += [event["message"] for event in page["events"]]
            if token.get("nextToken") == page["nextForwardToken"]:
                break
            token = {"nextToken": page["nextForwardToken"]}
    took = (time.perf_counter() - begin) * 1000
    return {"ms": took, "items": len(messages), "bytes": sum(len(message.encode()) for message in messages)}


read = {"instances": instances, "events": events}[sys.argv[1]]
print(json.dumps(read(*sys.argv[2:])))
