"""ssh to an instance through the vendor's session-manager-plugin: INSTANCE ENDPOINT PLUGIN KEY COMMAND...

Called by ssh itself as its ProxyCommand with `--proxy` in front.
"""
import json
import os
import sys

import boto3

if sys.argv[1] == "--proxy":
    instance, endpoint, plugin = sys.argv[2:5]
    request = {"Target": instance, "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": ["22"]}}
    ssm = boto3.client("ssm", region_name="us-east-1", endpoint_url=endpoint)
    answer = ssm.start_session(**request)
    response = {key: answer[key] for key in ("SessionId", "TokenValue", "StreamUrl")}
    os.execv(plugin, [plugin, json.dumps(response), "us-east-1", "StartSession", "", json.dumps(request), endpoint])
instance, endpoint, plugin, key = sys.argv[1:5]
proxy = f"{sys.executable} {os.path.abspath(__file__)} --proxy {instance} {endpoint} {plugin}"
options = [f"ProxyCommand={proxy}", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes",
           "LogLevel=ERROR", "ConnectTimeout=30"]
arguments = [part for option in options for part in ("-o", option)]
os.execvp("ssh", ["ssh", *arguments, "-i", key, f"root@{instance}", *sys.argv[5:]])
