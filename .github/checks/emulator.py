"""AWS on this machine, for the real client: moto, whose Session Manager runs a node's commands here instead of saying that it did."""

import json
import logging
import os
import re
import subprocess
import urllib.request

os.environ.update(AWS_ACCESS_KEY_ID="emulated", AWS_SECRET_ACCESS_KEY="emulated")

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402
from moto.ssm import exceptions, models as ssm  # noqa: E402

from workflows import ROOT  # noqa: E402

SBIN = ROOT / "terraform/modules/database-node/files/sbin"
# What the document takes for a command.
OPERATIONS = re.findall(r'"(dob-[a-z-]+)"', (ROOT / "terraform/modules/database/operations.tf").read_text())

HERE, THERE = "eu-west-1", "eu-central-1"


class Emulator:
    def __init__(self, folder):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.folder = folder
        self.names = {}
        self.sent = []
        self.asked = set()
        ssm.Command.invocation_response = lambda command, instance, plugin: self.run(command, instance)
        # Without targets, moto takes every instance for one.
        ssm.Command._get_instance_ids_from_targets = lambda command: []
        ssm.Command.get_invocation = lambda command, instance, plugin: self.outcome(command, instance)
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        self.url = "http://{}:{}".format(*self.server.get_host_and_port())
        # What moto holds is the process's, not the server's.
        urllib.request.urlopen(f"{self.url}/moto-api/reset", data=b"").close()

    def client(self, service, region=HERE):
        return boto3.client(service, region_name=region, endpoint_url=self.url)

    def node(self, name, region, role, **commands):
        """A running instance with these commands: their code in bash, by name with underscores."""
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
        """What one instance says to a command."""
        assert command.document_name == "dob-operation"
        line = "{} {}".format(*(command.parameters[name][0] for name in ("command", "arguments"))).strip()
        if line.split()[0] not in OPERATIONS:
            raise exceptions.SSMException("InvalidParameters", "a parameter has none of its allowed values")
        name = self.names[instance]
        self.sent.append((name, line))
        if not (self.folder / name).exists():
            raise exceptions.SSMException("InvalidInstanceId", f"Instances [[{instance}]] not in a valid state for account")
        # As the document does: the parameters are put into a line of shell.
        done = subprocess.run(["bash", "-c", f"{self.folder}/{name}/{line}"], cwd=self.folder, capture_output=True, text=True)
        # What a test's command ends with that is to go on for ever, or that never gets to a node whose agent hangs.
        ended = {0: "Success", 124: "InProgress", 125: "Delayed"}.get(done.returncode, "Failed")
        return {"CommandId": command.command_id, "InstanceId": instance, "Status": ended,
                "StatusDetails": "Undeliverable" if done.returncode == 126 else ended,
                "StandardOutputContent": done.stdout, "StandardErrorContent": done.stderr}

    def outcome(self, command, instance):
        """That it runs, for who asks the first time; then what it said."""
        [outcome] = [each for each in command.invocations if each["InstanceId"] == instance]
        if command.command_id not in self.asked:
            self.asked.add(command.command_id)
            return {**outcome, "Status": "InProgress", "StandardOutputContent": "", "StandardErrorContent": ""}
        return outcome


def status(*members, **node):
    """dob-status --json of a cluster of (name, role), as code in bash."""
    report = {"cluster": [{"name": name, "role": role} for name, role in members], "node": node, "backups": [], "last_backup": None}
    return f"cat <<'END'\n{json.dumps(report)}\nEND\n"
