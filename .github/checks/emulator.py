"""AWS on this machine for the real client: moto, with a Session Manager that really runs a node's commands, on this machine."""

import json
import logging
import os
import re
import subprocess
import urllib.request

os.environ.update(AWS_ACCESS_KEY_ID="emulated", AWS_SECRET_ACCESS_KEY="emulated")

import boto3  # noqa: E402
from moto.core.responses import ActionResult  # noqa: E402
from moto.s3.responses import S3Response  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402
from moto.ssm import exceptions, models as ssm  # noqa: E402

from workflows import ROOT  # noqa: E402

SBIN = ROOT / "terraform/modules/database-node/files/sbin"
# What the document takes for a command.
OPERATIONS = re.findall(r'"(dob-[a-z-]+)"', (ROOT / "terraform/modules/database/operations.tf").read_text())

HERE, THERE = "eu-west-1", "eu-central-1"


def get_object(request, get=S3Response.get_object):
    """Adds what moto lacks: until when an object is locked."""
    if "retention" not in request.querystring:
        return get(request)
    key, _ = request._get_key()
    request.data["Action"] = "GetObjectRetention"
    return request.serialized(ActionResult({"Retention": {"Mode": key.lock_mode, "RetainUntilDate": key.lock_until}}))


S3Response.get_object = get_object


class Emulator:
    def __init__(self, folder):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.folder = folder
        self.names = {}
        self.sent = []
        self.asked = set()
        # How many questions for an outcome fail.
        self.fails = 0
        ssm.Command.invocation_response = lambda command, instance, plugin: self.run(command, instance)
        # Without targets, moto would send the command to every instance.
        ssm.Command._get_instance_ids_from_targets = lambda command: []
        ssm.Command.get_invocation = lambda command, instance, plugin: self.outcome(command, instance)
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        self.url = "http://{}:{}".format(*self.server.get_host_and_port())
        # moto keeps its state in the process, not in the server.
        urllib.request.urlopen(f"{self.url}/moto-api/reset", data=b"").close()

    def client(self, service, region=HERE):
        return boto3.client(service, region_name=region, endpoint_url=self.url)

    def node(self, name, region, role, **commands):
        """Starts an instance with these commands: bash code by the command's name, with underscores for hyphens."""
        [instance] = self.client("ec2", region).run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=[{"ResourceType": "instance", "Tags": [
                {"Key": "Name", "Value": name}, {"Key": "Role", "Value": f"dob-database-{role}"}]}])["Instances"]
        self.names[instance["InstanceId"]] = name
        (self.folder / name).mkdir()
        for command, code in commands.items():
            file = self.folder / name / command.replace("_", "-")
            assert (SBIN / file.name).exists(), f"no node has {file.name}"
            file.write_text("#!/bin/bash\n" + code)
            file.chmod(0o755)

    def run(self, command, instance):
        """Runs a command on one instance and returns its outcome."""
        assert command.document_name == "dob-operation"
        line = "{} {}".format(*(command.parameters[name][0] for name in ("command", "arguments"))).strip()
        if line.split()[0] not in OPERATIONS:
            raise exceptions.SSMException("InvalidParameters", "a parameter has none of its allowed values")
        name = self.names[instance]
        self.sent.append((name, line))
        if not (self.folder / name).exists():
            raise exceptions.SSMException("InvalidInstanceId", f"Instances [[{instance}]] not in a valid state for account")
        # Like the SSM document, which puts the parameters into a line of shell.
        done = subprocess.run(["bash", "-c", f"{self.folder}/{name}/{line}"], cwd=self.folder, capture_output=True, text=True)
        # A test's command ends with one of these if it must run forever, or must never reach a node whose agent hangs.
        ended = {0: "Success", 123: "TimedOut", 124: "InProgress", 125: "Delayed"}.get(done.returncode, "Failed")
        return {"CommandId": command.command_id, "InstanceId": instance, "Status": ended,
                "StatusDetails": {123: "DeliveryTimedOut", 126: "Undeliverable"}.get(done.returncode, ended),
                "StandardOutputContent": done.stdout, "StandardErrorContent": done.stderr}

    def outcome(self, command, instance):
        """Returns InProgress to the first question, and the outcome after that."""
        if self.fails:
            self.fails -= 1
            raise exceptions.SSMException("InternalServerError", "an error occurred on the server side")
        [outcome] = [each for each in command.invocations if each["InstanceId"] == instance]
        if command.command_id not in self.asked:
            self.asked.add(command.command_id)
            return {**outcome, "Status": "InProgress", "StandardOutputContent": "", "StandardErrorContent": ""}
        return outcome


def status(*members, **node):
    """Bash code that prints what dob-status --json prints for a cluster of (name, role)."""
    report = {"cluster": [{"name": name, "role": role} for name, role in members], "node": node, "backups": [], "last_backup": None}
    return f"cat <<'END'\n{json.dumps(report)}\nEND\n"
