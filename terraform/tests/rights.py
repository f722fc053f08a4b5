"""Which role called what on the emulator, and whether its policies allow the call on AWS.

moto enforces no rights. The credentials of each role are named after it, so that every call shows which role made it.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from moto.core.authorization import ActionAuthenticatorMixin
from moto.ec2.models import ec2_backends

ACCOUNT = "123456789012"

# The name of an action in a policy, if it differs from the name of the call: first of services, then of calls.
SERVICES = {"elbv2": "elasticloadbalancing", "monitoring": "cloudwatch", "s3api": "s3"}
ACTIONS = {
    "s3:HeadBucket": "s3:ListBucket", "s3:HeadObject": "s3:GetObject", "s3:ListObjects": "s3:ListBucket", "s3:ListObjectsV2": "s3:ListBucket",
    "s3:DeleteObjects": "s3:DeleteObject", "s3:ListObjectVersions": "s3:ListBucketVersions",
    **{f"s3:{verb}Bucket{thing}": f"s3:{verb}{name}Configuration" for verb in ("Get", "Put") for thing, name in {
        "AccelerateConfiguration": "Accelerate", "Encryption": "Encryption", "Lifecycle": "Lifecycle", "LifecycleConfiguration": "Lifecycle",
        "Replication": "Replication"}.items()},
    "s3:GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration", "s3:PutObjectLockConfiguration": "s3:PutBucketObjectLockConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock", "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:DeleteBucketEncryption": "s3:PutEncryptionConfiguration", "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
}
# Calls that every identity may make, and calls that Terraform can do without.
FREE = {"sts:GetCallerIdentity"}
TOLERATED = {
    "ec2:ModifyInstanceAttribute": "ending an instance tries to lift its protection, and continues if that is refused",
    "iam:GetUser": "one way to learn the account's number, and there are others",
}
# What AWS does with the key of a new volume, with the caller's rights.
OF_A_VOLUMES_KEY = ("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo")


@dataclass(frozen=True)
class Question:
    """One action that AWS checks. A resource of None may be any. Nothing is known about a key that is not in the context."""

    role: str
    action: str
    resource: str | None = None
    context: tuple = ()

    def __str__(self):
        return f"{self.role}: {self.action} on {self.resource or 'anything'} with {dict(self.context)}"


def question(role, action, resource=None, **context):
    return Question(role, action, resource, tuple(sorted((key, value) for key, value in context.items())))


class Log:
    """The actions that AWS would check for every call, since the log was created."""

    def __init__(self):
        self.questions = set()
        log = self

        def asked(response, _, resource="*"):
            log.questions |= set(questions(response, resource))

        ActionAuthenticatorMixin._authenticate_and_authorize_action = asked


def questions(response, resource):
    signed = re.search(r"Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/", response.headers.get("Authorization", ""))
    if not signed:
        return
    role, region, service = signed.groups()
    action = f"{SERVICES.get(service, service)}:{response._get_action()}"
    action = ACTIONS.get(action, action)
    if action in FREE or action in TOLERATED:
        return
    known = {"aws:RequestedRegion": region}
    parameters = {name: values[0] for name, values in response.querystring.items() if isinstance(values, list) and values}
    if service == "s3":
        parts = urlsplit(response.uri).path.strip("/")
        yield question(role, action, f"arn:aws:s3:::{parts}", **known)
    elif service == "iam":
        name = parameters.get("InstanceProfileName") or parameters.get("RoleName")
        kind = "instance-profile" if "InstanceProfileName" in parameters else "role"
        yield question(role, action, name and f"arn:aws:iam::{ACCOUNT}:{kind}/{name}", **known)
        if action == "iam:AddRoleToInstanceProfile":
            yield question(role, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{parameters['RoleName']}")
    elif action == "route53:ChangeResourceRecordSets":
        for name in re.findall(r"<Name>([^<]+?)\.?</Name>", response.body if isinstance(response.body, str) else response.body.decode()):
            yield question(role, action, None, **known, **{"route53:ChangeResourceRecordSetsNormalizedRecordNames": name.lower()})
    elif service == "ec2":
        yield from of_ec2(role, action, region, parameters, known)
    else:
        yield question(role, action, None, **known)


def of_ec2(role, action, region, parameters, known):
    ids = [value for name, value in parameters.items() if re.fullmatch(r"(ResourceId|InstanceId|VolumeId|NetworkInterfaceId)(\.\d+)?", name)]
    if action == "ec2:DetachNetworkInterface":
        ids = [each.id for each in ec2_backends[ACCOUNT][region].enis.values() if each.attachment_id == parameters["AttachmentId"]]
    given = {parameters[name]: parameters.get(name.replace("Key", "Value"), "") for name in parameters if re.fullmatch(r"Tag\.\d+\.Key", name)}
    if re.match(r"ec2:(Describe|Get)", action) or not ids:
        yield question(role, action, f"arn:aws:ec2:{region}:{ACCOUNT}:new/new", **known)
    else:
        for each in ids:
            tags = {tag["key"]: tag["value"] for tag in ec2_backends[ACCOUNT][region].describe_tags(filters={"resource-id": [each]})}
            context = {f"aws:ResourceTag/{key}": tags.get(key) for key in ("Name", "Service", "ebs.csi.aws.com/cluster")}
            if action == "ec2:CreateTags":
                # Only a resource that is tagged at its creation has one.
                context |= {"ec2:CreateAction": None, "aws:RequestTag/Name": given.get("Name")}
            kind = {"i": "instance", "vol": "volume", "eni": "network-interface"}.get(each.split("-")[0], "other")
            yield question(role, action, f"arn:aws:ec2:{region}:{ACCOUNT}:{kind}/{each}", **known, **context)
    if any(name.startswith("TagSpecification.") for name in parameters):
        yield question(role, "ec2:CreateTags", f"arn:aws:ec2:{region}:{ACCOUNT}:new/new", **known, **{"ec2:CreateAction": action.split(":")[1]})
    if "IamInstanceProfile.Name" in parameters:
        yield question(role, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{parameters['IamInstanceProfile.Name']}", **{"iam:PassedToService": "ec2.amazonaws.com"})
    if any(name.endswith("KmsKeyId") for name in parameters):
        for each in OF_A_VOLUMES_KEY:
            yield question(role, each, None, **known, **{"kms:ViaService": f"ec2.{region}.amazonaws.com"})


def allowed(statements, asked):
    """Decides like AWS: a Deny refuses, otherwise an Allow is needed. If a condition can't be decided, the caller gets the benefit of the doubt."""
    matching = [statement["Effect"] for statement in statements if concerns(statement, asked)]
    return "Deny" not in matching and "Allow" in matching


def concerns(statement, asked):
    def matches(patterns, value):
        # Patterns of IAM have only * and ?, and actions ignore case.
        return any(fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in (patterns if isinstance(patterns, list) else [patterns]))

    action = asked.action.lower()
    lower = {key: [each.lower() for each in (value if isinstance(value, list) else [value])] for key, value in statement.items() if key in ("Action", "NotAction")}
    if not (matches(lower["Action"], action) if "Action" in lower else not matches(lower["NotAction"], action)):
        return False
    if asked.resource is None:
        if statement["Effect"] == "Deny" and statement["Resource"] != "*":
            return False
    elif not matches(statement["Resource"], asked.resource):
        return False
    context = dict(asked.context)
    return all(holds(operator, context[key], values if isinstance(values, list) else [values]) if key in context else statement["Effect"] == "Allow"
               for operator, keys in statement.get("Condition", {}).items() for key, values in keys.items())


def holds(operator, value, wanted):
    operator = operator.split(":")[-1]
    if operator == "Null":
        return (value is None) == (wanted == ["true"])
    if operator.endswith("IfExists"):
        return value is None or holds(operator.removesuffix("IfExists"), value, wanted)
    if operator in ("StringNotEquals", "StringNotLike"):
        return not holds(operator.replace("Not", ""), value, wanted)
    if operator in ("StringEquals", "StringLike"):
        return value is not None and any(fnmatchcase(value, each) if operator == "StringLike" else value == each for each in wanted)
    raise NotImplementedError(f"the condition {operator}")
