"""Reads a pod's log streams with boto3, the vendor's own client, and prints them as JSON: messages by stream name.

    read_logs.py ENDPOINT STREAM_PREFIX
"""

import json
import sys

import boto3

endpoint, prefix = sys.argv[1:]
logs = boto3.client("logs", endpoint_url=endpoint, region_name="us-east-1")
(group,) = [group["logGroupName"] for group in logs.describe_log_groups(logGroupNamePrefix="/orca/")["logGroups"]]
pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group, logStreamNamePrefix=prefix)
found = {}
for name in [stream["logStreamName"] for page in pages for stream in page["logStreams"]]:
    messages, token = [], {}
    while True:
        page = logs.get_log_events(logGroupName=group, logStreamName=name, startFromHead=True, **token)
        messages += [event["message"] for event in page["events"]]
        if token.get("nextToken") == page["nextForwardToken"]:
            break
        token = {"nextToken": page["nextForwardToken"]}
    found[name] = messages
print(json.dumps(found))
