"""Stands in for AWS on the lab's network: S3, Secrets Manager and CloudWatch Logs of moto.

Reads what the account holds as JSON from its first line of input: {"regions": [...], "clusters": [...], "buckets": {region: name},
"secrets": {name: value}}; says "ready", and ends with its input.
"""

import json
import os
import sys

os.environ.update(AWS_ACCESS_KEY_ID="lab", AWS_SECRET_ACCESS_KEY="lab")

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

ADDRESS, PORT = sys.argv[1], int(sys.argv[2])


def client(service, region):
    return boto3.client(service, region_name=region, endpoint_url=f"http://{ADDRESS}:{PORT}")


def fill(account):
    for region in account["regions"]:
        # Not locked as on AWS: the drill bucket-lost deletes one. docs/decisions.md says what was tried with a locked one.
        client("s3", region).create_bucket(
            Bucket=account["buckets"][region], CreateBucketConfiguration={"LocationConstraint": region}
        )
        for cluster in account["clusters"]:
            client("logs", region).create_log_group(logGroupName=f"/dob/{cluster}/database")
        for name, value in account["secrets"].items():
            client("secretsmanager", region).create_secret(Name=name, SecretString=value)


if __name__ == "__main__":
    server = ThreadedMotoServer(ip_address=ADDRESS, port=PORT, verbose=False)
    server.start()
    fill(json.loads(sys.stdin.readline()))
    print("ready", flush=True)
    sys.stdin.read()
    server.stop()
