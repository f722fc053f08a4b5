#!/usr/bin/env python3
"""Plans the three roots against an emulator of AWS (moto), checks the plans, applies them, and checks the result.

The roots run unchanged, except for emulator/reach (how to reach the emulator) and, in the apply, emulator/unsupported (what it can't create).
"""

import base64
import gzip
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
TERRAFORM = HERE.parent
FILL_SECRETS = TERRAFORM.parent / "scripts" / "fill-secrets"
DOMAIN = "example.com"
REGIONS = {"global": "eu-central-1", "primary": "eu-west-1", "recovery": "eu-central-1"}
SIDES = ("primary", "recovery")

# moto reads these when it is imported.
os.environ.update(
    AWS_ACCESS_KEY_ID="emulated", AWS_SECRET_ACCESS_KEY="emulated", AWS_DEFAULT_REGION=REGIONS["primary"],
    MOTO_ACM_VALIDATION_WAIT="1", MOTO_IAM_LOAD_MANAGED_POLICIES="true", MOTO_AMIS_PATH=str(HERE / "emulator" / "images.json"))

import boto3  # noqa: E402
from moto.core.responses import ActionResult  # noqa: E402
from moto.ec2.models.instances import Instance  # noqa: E402
from moto.ec2.responses.instances import InstanceResponse  # noqa: E402
from moto.eks import urls as eks  # noqa: E402
from moto.eks.responses import EKSResponse  # noqa: E402
from moto.route53.responses import Route53  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

sys.path.append(str(TERRAFORM.parent / ".github" / "checks"))
import rights  # noqa: E402
import workflows  # noqa: E402


def monitor_instances(request):
    """Adds what moto lacks: detailed monitoring."""
    monitored = [request.ec2_backend.get_instance(each) for each in request._get_param("InstanceIds", [])]
    for instance in monitored:
        instance.monitoring_state = "enabled"
    return ActionResult({"InstanceMonitorings": [{"InstanceId": each.id, "Monitoring": {"State": "enabled"}} for each in monitored]})


InstanceResponse.monitor_instances = monitor_instances


def is_true(request, name, *default, get=Route53._get_bool_param):
    """Adds what moto lacks: a zone that is created for a VPC is private."""
    return name == "HostedZoneConfig.PrivateZone" and bool(request._get_param("VPC.VPCId")) or get(request, name, *default)


Route53._get_bool_param = is_true


def describe_addon_versions(request):
    """Adds what moto lacks: the versions of EKS's add-ons, one of which is the default."""
    name, cluster = request._get_param("addonName"), request._get_param("kubernetesVersion")
    versions = [{"addonVersion": f"v{number}-eksbuild.1", "compatibilities": [{"clusterVersion": cluster, "defaultVersion": number == 1}]} for number in (2, 1)]
    return ActionResult({"addons": [{"addonName": name, "addonVersions": versions}]})


EKSResponse.describe_addon_versions = describe_addon_versions
eks.url_paths["{0}/addons/supported-versions$"] = eks.response.dispatch


def terminate(instance, terminate=Instance.terminate):
    """Adds what moto lacks: a terminated instance releases its network interface."""
    before = terminate(instance)
    for interface in instance.nics.values():
        interface.instance, interface.attachment_id, interface.status = None, None, "available"
    return before


Instance.terminate = terminate


class Emulator:
    """AWS on this machine, with what exists before the first apply: the domain, images, buckets for the states."""

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        self.url = "http://{}:{}".format(*self.server.get_host_and_port())
        os.environ["AWS_ENDPOINT_URL"] = self.url
        self.client("route53").create_hosted_zone(Name=DOMAIN, CallerReference="emulator")
        for root, region in REGIONS.items():
            self.client("s3", region).create_bucket(Bucket=f"state-{root}", CreateBucketConfiguration={"LocationConstraint": region})
        for side in SIDES:
            self.client("ssm", REGIONS[side]).put_parameter(Name="/emulated/image", Value="1.36.3-20260901", Type="String")

    @staticmethod
    def client(service, region=REGIONS["primary"]):
        return boto3.client(service, region_name=region)


class Root:
    """One root in the copy of the tree."""

    def __init__(self, name, **variables):
        self.name = name
        self.folder = tree / name
        self.variables = {"domain": DOMAIN, **variables}
        shutil.copy(HERE / "emulator" / "reach" / "provider_override.tf", self.folder)
        self.run("init", "-input=false", *(f"-backend-config={option}" for option in (
            f"bucket=state-{name}", f"region={REGIONS[name]}", "use_path_style=true", "skip_credentials_validation=true",
            "skip_requesting_account_id=true", "skip_metadata_api_check=true")))

    def run(self, command, *options, fails=False, role="plan"):
        done = subprocess.run(["terraform", command, "-no-color", *options], cwd=self.folder, text=True, env={**os.environ, "AWS_ACCESS_KEY_ID": role},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if (done.returncode != 0) != fails:
            raise AssertionError(f"terraform {command} of {self.name}: exit code {done.returncode}\n{done.stdout[-6000:]}")
        return done.stdout

    def plan(self, *options, fails=False, role="plan", **variables):
        values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in {**self.variables, **variables}.items()}
        # Like scripts/infrastructure: a plan takes no lock.
        return self.run("plan", "-input=false", f"-lock={json.dumps(role != 'plan')}", "-out=plan", *(f"-var={name}={value}" for name, value in values.items()), *options,
                        fails=fails, role=role)

    def planned(self, plan="plan"):
        """The planned resources by address."""
        return {resource["address"]: resource for resource in resources(json.loads(self.run("show", "-json", plan))["planned_values"]["root_module"])}

    def apply(self, *options, **variables):
        self.plan(*options, **variables)
        self.run("apply", "-input=false", "plan", role=variables.get("role", f"apply-{self.name}"))

    def network(self):
        return json.loads(self.run("output", "-json", "region"))["network"]


def resources(module):
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from resources(child)


def of_type(kind, plan):
    return {address: resource["values"] for address, resource in plan.items() if resource["type"] == kind and resource["mode"] == "managed"}


def side_by_side(action, names):
    """Runs an action for several roots at the same time."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(action, names)))


def setUpModule():
    global tree, emulator, log, roots, plans
    tree = Path(tempfile.mkdtemp(prefix="dob-emulator-")) / "terraform"
    shutil.copytree(TERRAFORM, tree, symlinks=True, ignore=shutil.ignore_patterns(".terraform*", "tests", "*.auto.tfvars*"))
    for folder in ("base", "foundation"):
        shutil.copytree(TERRAFORM.parent / "k8s" / folder, tree.parent / "k8s" / folder)
    shutil.copytree(TERRAFORM.parent / "scripts", tree.parent / "scripts")
    shutil.copy(HERE / "emulator" / "reach" / "image_override.tf", tree / "modules" / "eks")
    emulator = Emulator()
    log = rights.Log()
    agent = shim = {"version": "1.2.3", "sha256": "0" * 64}
    variables = {
        "global": {"github_repository": "example/dob-api", "state_buckets": {name: f"state-{name}" for name in REGIONS}, "smoke_run": True},
        "primary": {"agent": agent, "shim": shim, "size": "standard", "peering": {"vpc_id": "vpc-0123"}, "alarm_topics": ["arn:aws:sns:eu-west-1:123456789012:operators"]},
        "recovery": {"agent": agent, "shim": shim, "size": "standard", "peering": {"connection_id": "pcx-0123"}, "alarm_topics": ["arn:aws:sns:eu-central-1:123456789012:operators"]},
    }
    roots = side_by_side(lambda name: Root(name, **variables[name]), REGIONS)
    side_by_side(lambda name: roots[name].plan(), REGIONS)
    plans = {name: root.planned() for name, root in roots.items()}


def tearDownModule():
    emulator.server.stop()
    shutil.rmtree(tree.parent)


class Plans(unittest.TestCase):
    """The plans of the unchanged tree."""

    maxDiff = None

    def test_both_regions_are_equal_but_for_named_differences(self):
        differences = {
            'module.region.module.network.aws_vpc_peering_connection.requested[0]': "primary requests the peering",
            'module.region.module.network.aws_vpc_peering_connection_accepter.accepted[0]': "recovery accepts it",
            'module.region.module.registry[0].aws_ecr_repository.this': "primary has a copy of what is pushed to the global root's",
            **{f'module.region.module.secrets.aws_secretsmanager_secret.this["{name}"]': "primary makes the secrets, recovery has their copies"
               for name in ("api", "certificate_authority", "passwords")},
        }
        of_side = {side: {self.neutral(address, side): self.neutral(self.readable(resource), side)
                          for address, resource in plans[side].items() if resource["mode"] == "managed"} for side in SIDES}
        only = set(of_side["primary"]) ^ set(of_side["recovery"])
        self.assertEqual(only, set(differences))
        for address in set(of_side["primary"]) & set(of_side["recovery"]):
            self.assertEqual(of_side["primary"][address], of_side["recovery"][address], address)

    @staticmethod
    def readable(resource):
        values = dict(resource.get("values") or {})
        if values.get("user_data_base64"):
            values["user_data_base64"] = gzip.decompress(base64.b64decode(values["user_data_base64"])).decode()
        # Of a launch template, which packs nothing.
        if values.get("user_data"):
            values["user_data"] = base64.b64decode(values["user_data"]).decode()
        return values

    @classmethod
    def neutral(cls, value, side):
        """A value without the names and addresses of its side, and with sorted lists, so that both sides can be compared."""
        if isinstance(value, dict):
            return {cls.neutral(key, side): cls.neutral(item, side) for key, item in value.items()}
        if isinstance(value, list):
            return sorted((cls.neutral(item, side) for item in value), key=json.dumps)
        if not isinstance(value, str):
            return value
        if value.startswith("{"):
            return cls.neutral(json.loads(value), side)
        mine = {"primary": r"eu-west-1|10\.20\.", "recovery": r"eu-central-1|10\.21\."}
        for own, pattern in mine.items():
            value = re.sub(pattern, "<mine>" if own == side else "<other>", value)
        return re.sub("primary|recovery|standby", "<side>", value)

    def test_three_zones(self):
        for side in SIDES:
            zones = {subnet["availability_zone"] for subnet in of_type("aws_subnet", plans[side]).values()}
            self.assertEqual(zones, {REGIONS[side] + letter for letter in "abc"})

    def test_the_internet_is_let_in_by_the_load_balancer_only(self):
        for side in SIDES:
            open_rules = [address for address, rule in of_type("aws_vpc_security_group_ingress_rule", plans[side]).items()
                          if rule["cidr_ipv4"] == "0.0.0.0/0" or rule["cidr_ipv6"]]
            self.assertEqual(open_rules, ["module.region.module.edge.aws_vpc_security_group_ingress_rule.internet"])
            self.assertEqual({plan for plan in ("aws_security_group_rule",) if of_type(plan, plans[side])}, set())

    def test_no_public_address_but_for_nat(self):
        for side in SIDES:
            self.assertTrue(all(".network.aws_eip.nat" in address for address in of_type("aws_eip", plans[side])))
            self.assertFalse(any(subnet["map_public_ip_on_launch"] for subnet in of_type("aws_subnet", plans[side]).values()))

    def test_everything_is_encrypted(self):
        for side in SIDES:
            plan = plans[side]
            self.assertTrue(all(volume["encrypted"] for volume in of_type("aws_ebs_volume", plan).values()))
            self.assertTrue(all(node["root_block_device"][0]["encrypted"] for node in of_type("aws_instance", plan).values()))
            self.assertTrue(all(template["block_device_mappings"][0]["ebs"][0]["encrypted"] == "true"
                                for template in of_type("aws_launch_template", plan).values()))
            buckets = {address.rsplit(".", 2)[0] for address in of_type("aws_s3_bucket", plan)}
            encrypted = {address.rsplit(".", 2)[0] for address in of_type("aws_s3_bucket_server_side_encryption_configuration", plan)}
            self.assertEqual(buckets, encrypted)
            self.assertEqual(len(of_type("aws_kms_key", plan)), 5)

    def test_everything_says_whose_it_is(self):
        for name, plan in plans.items():
            tagged = {address: resource["values"]["tags_all"] for address, resource in plan.items() if resource.get("values", {}).get("tags_all")}
            self.assertGreater(len(tagged), 10)
            for address, tags in tagged.items():
                self.assertLessEqual({"Service": "dob", "Side": name, "ManagedBy": "terraform"}.items(), tags.items(), address)

    def test_states_are_locked_and_encrypted(self):
        for root in roots.values():
            backend = json.loads((root.folder / ".terraform" / "terraform.tfstate").read_text())["backend"]["config"]
            self.assertEqual((backend["use_lockfile"], backend["encrypt"]), (True, True), root.name)

    def test_the_demonstration_s_copies_have_a_place(self):
        [section] = re.findall(r"## Smallest demonstration\n(.*?)\n## ", (TERRAFORM / "README.md").read_text(), re.S)
        roots["recovery"].plan(*re.findall(r"-target=[\w.]+", section), "-out=demonstration")
        made = roots["recovery"].planned("demonstration")
        self.assertLessEqual({"alias/dob-backups", "alias/dob-secrets"}, {alias["name"] for alias in of_type("aws_kms_alias", made).values()})
        self.assertEqual([bucket["bucket"] for bucket in of_type("aws_s3_bucket", made).values()], ["dob-backups-123456789012-eu-central-1"])

    def test_add_ons_and_pod_roles_are_planned(self):
        for side in SIDES:
            self.assertEqual(len(of_type("aws_eks_addon", plans[side])), 6)
            self.assertEqual({(role["namespace"], role["service_account"]) for role in of_type("aws_eks_pod_identity_association", plans[side]).values()},
                             {("kube-system", "aws-load-balancer-controller"), ("external-secrets", "external-secrets"), ("logs", "shipper"), ("observability", "alertmanager")})

    def test_no_region_is_asked_about_the_other(self):
        for side in SIDES:
            state = json.loads(roots[side].run("show", "-json", "plan"))
            data = {resource["type"] for resource in resources(state.get("prior_state", {}).get("values", {}).get("root_module", {})) if resource["mode"] == "data"}
            # The provider reads its default tags without calling AWS.
            self.assertEqual(data, {"aws_ami", "aws_availability_zones", "aws_caller_identity", "aws_default_tags", "aws_ec2_instance_type", "aws_eks_addon_version", "aws_region", "aws_route53_zone", "aws_ssm_parameter"})

    def test_bad_input_is_refused_with_a_sentence(self):
        regions = {"primary": {"region": "eu-west-1", "cidr": "10.20.0.0/16"}, "recovery": {"region": "eu-central-1", "cidr": "10.21.0.0/16"}}
        for sentence, variables in {
            "Both sides are in one region": {"regions": {**regions, "recovery": {"region": "eu-west-1", "cidr": "10.21.0.0/16"}}},
            "CIDR blocks of the two sides overlap": {"regions": {**regions, "recovery": {"region": "eu-central-1", "cidr": "10.20.128.0/16"}}},
            "There is no checksum of the shim 1.2.3 yet": {"shim": {"version": "1.2.3", "sha256": ""}},
            "There is no checksum of Session Manager's agent 1.2.3 yet": {"agent": {"version": "1.2.3", "sha256": ""}},
            "has no zone eu-west-1d": {"regions": {**regions, "primary": {**regions["primary"], "zones": ["a", "b", "d"]}}},
            "never the whole Internet": {"ssh": {"from": "0.0.0.0/0", "public_key": "ssh-ed25519 AAAA"}},
        }.items():
            with self.subTest(sentence):
                said = " ".join(re.sub(r"[│╷╵]", " ", roots["primary"].plan(fails=True, **variables)).split())
                self.assertIn(sentence, said)


class Region(unittest.TestCase):
    """The state of the emulator after the apply, as AWS's own client sees it."""

    @classmethod
    def setUpClass(cls):
        for module in (HERE / "emulator" / "unsupported").iterdir():
            shutil.copytree(module, tree / "modules" / module.name, dirs_exist_ok=True)
        # The order of README.md, with step 3 and 5 of primary in one apply.
        side_by_side(lambda name: roots[name].apply(**({"peering": None} if name == "recovery" else {})), ("global", "recovery"))
        roots["primary"].apply(peering={"vpc_id": roots["recovery"].network()["vpc_id"]})
        roots["recovery"].apply("-target=module.region.module.network", peering={"connection_id": roots["primary"].network()["connection_id"]})

    def test_the_regions_are_peered(self):
        [connection] = emulator.client("ec2").describe_vpc_peering_connections()["VpcPeeringConnections"]
        self.assertEqual(connection["Status"]["Code"], "active")
        for side, other in (("primary", "10.21.68.0/22"), ("recovery", "10.20.68.0/22")):
            tables = emulator.client("ec2", REGIONS[side]).describe_route_tables()["RouteTables"]
            through = [route["DestinationCidrBlock"] for table in tables for route in table["Routes"] if "VpcPeeringConnectionId" in route]
            self.assertEqual(through, [other] * 3)

    def test_the_nodes_keep_their_addresses(self):
        for side, network in (("primary", "10.20"), ("recovery", "10.21")):
            reservations = emulator.client("ec2", REGIONS[side]).describe_instances(
                Filters=[{"Name": "tag:Role", "Values": ["dob-database-*"]}])["Reservations"]
            nodes = [node for reservation in reservations for node in reservation["Instances"]]
            self.assertEqual({interface["PrivateIpAddress"] for node in nodes for interface in node["NetworkInterfaces"]},
                             {f"{network}.68.11", f"{network}.69.11", f"{network}.70.11"})

    def test_data_volumes_survive_a_destroy(self):
        said = roots["primary"].plan("-destroy", fails=True)
        self.assertIn("prevent_destroy", said)

    def test_names(self):
        zone = emulator.client("route53").list_hosted_zones_by_name(DNSName=DOMAIN)["HostedZones"][0]["Id"]
        records = emulator.client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        self.assertEqual({record["Failover"]: record["ResourceRecords"][0]["Value"] for record in records if record["Name"] == f"dob.{DOMAIN}." and "Failover" in record},
                         {"PRIMARY": f"primary.dob.{DOMAIN}", "SECONDARY": f"recovery.dob.{DOMAIN}"})
        self.assertLessEqual({f"{side}.dob.{DOMAIN}." for side in SIDES}, {record["Name"] for record in records if "AliasTarget" in record})

    def test_secrets_are_filled_once(self):
        environment = dict(os.environ, AWS_REGION=REGIONS["primary"])

        def fill():
            return subprocess.run([FILL_SECRETS], env=environment, text=True, capture_output=True, check=True).stdout.splitlines()

        def value(name):
            return json.loads(emulator.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])

        names = ("dob/certificate-authority", "dob/passwords", "dob/api")
        self.assertEqual(fill(), [f"{name}: filled" for name in names])
        values = {name: value(name) for name in names}
        self.assertEqual(set(values["dob/certificate-authority"]), {"certificate", "key"})
        self.assertEqual(set(values["dob/passwords"]), {"replication", "rewind", "admin", "backup_key"})
        self.assertEqual(len(set(values["dob/passwords"].values())), 4)
        self.assertEqual(set(values["dob/api"]), {"pg_user", "pg_password", "pg_admin_user", "pg_admin_password", "ca_certificate"})
        self.assertEqual(values["dob/api"]["pg_admin_password"], values["dob/passwords"]["admin"])
        self.assertEqual(values["dob/api"]["ca_certificate"], values["dob/certificate-authority"]["certificate"])
        self.assertEqual(fill(), [f"{name}: already has a value" for name in names])
        self.assertEqual({name: value(name) for name in names}, values)

    def test_what_a_copy_s_key_is_called_is_no_drift(self):
        # moto returns another name of the key than it was given, as AWS may.
        [copy] = emulator.client("secretsmanager").describe_secret(SecretId="dob/api")["ReplicationStatus"]
        self.assertNotEqual(copy["KmsKeyId"], "alias/dob-secrets")
        self.assertIn("No changes.", roots["primary"].plan("-target=module.region.module.secrets"))

    def test_no_state_holds_a_secret(self):
        for root in REGIONS:
            state = emulator.client("s3", REGIONS[root]).get_object(Bucket=f"state-{root}", Key="terraform.tfstate")["Body"].read().decode()
            self.assertNotIn("aws_secretsmanager_secret_version", state)
            self.assertNotIn("PRIVATE KEY", state)


# Actions that read the contents of a resource, not its settings.
DATA = (
    "athena:GetQueryResults", "codecommit:GitPull", "dynamodb:GetItem", "dynamodb:Scan", "ec2:GetConsoleOutput", "ec2:GetPasswordData", "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer", "kinesis:GetRecords", "kms:Decrypt", "lambda:GetFunction", "logs:FilterLogEvents", "logs:GetLogEvents", "logs:StartQuery",
    "s3:GetObject", "s3:GetObjectVersion", "secretsmanager:BatchGetSecretValue", "secretsmanager:GetSecretValue", "sqs:ReceiveMessage", "ssm:GetCommandInvocation",
    "ssm:GetParameter", "ssm:GetParameterHistory", "ssm:GetParametersByPath",
)
# What programs with a role call, besides the commands of the AWS client.
PROGRAMS = {
    "cosign sign": ("ecr:BatchGetImage", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"),
    "cosign verify": ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
    "spin registry push": ("ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"),
    "aws ssm start-session": ("ssm:StartSession", "ssmmessages:OpenDataChannel"),
    "aws ecr get-login-password": ("ecr:GetAuthorizationToken",),
    "aws eks update-kubeconfig": ("eks:DescribeCluster",),
    "aws s3api delete-objects": ("s3:BypassGovernanceRetention", "s3:DeleteObjectVersion"),
    "aws s3api head-bucket": ("s3:ListBucket",),
    "aws s3api list-object-versions": ("s3:ListBucketVersions",),
}


class Rights(unittest.TestCase):
    """The policies of each workflow's role allow exactly what the workflow calls, on the emulator or in the commands of its scripts."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        iam = emulator.client("iam")
        cls.policies = {}
        for role in workflow_roles():
            names = iam.list_role_policies(RoleName=f"dob-{role}")["PolicyNames"]
            documents = [iam.get_role_policy(RoleName=f"dob-{role}", PolicyName=name)["PolicyDocument"] for name in names]
            for attached in iam.list_attached_role_policies(RoleName=f"dob-{role}")["AttachedPolicies"]:
                version = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]["DefaultVersionId"]
                documents.append(iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"])
            cls.policies[role] = [statement for document in documents for statement in document["Statement"]]
        # A plan of existing resources reads more than a plan of new ones. The restore drill creates its node and deletes it.
        side_by_side(lambda name: roots[name].plan(), REGIONS)
        for there in (True, False):
            # Without the security groups, whose rules moto returns otherwise than they were made.
            node = [f"-target=module.region.module.database.aws_{each}" for each in (
                "ebs_volume.restore", "network_interface.node", "instance.node", "volume_attachment.data", "cloudwatch_metric_alarm.recover", "route53_record.node")]
            roots["recovery"].apply(*node, role="restore-drill", restore_node=there)

    @classmethod
    def refused(cls, questions):
        return sorted({str(each) for each in questions if each.role in cls.policies and not rights.allowed(cls.policies[each.role], each)})

    def test_terraform_is_refused_nothing(self):
        asked = {role: {each.action for each in log.questions if each.role == role} for role in self.policies}
        for role, expected in {
            "plan": {"iam:GetRolePolicy"}, "apply-global": {"iam:CreateRole"}, "apply-primary": {"secretsmanager:CreateSecret"}, "apply-recovery": {"ec2:RunInstances"},
            "restore-drill": {"ec2:MonitorInstances", "ec2:TerminateInstances", "ec2:DeleteVolume", "ec2:DeleteNetworkInterface", "route53:ChangeResourceRecordSets"},
        }.items():
            self.assertLessEqual(expected, asked[role], role)
        self.assertEqual(self.refused(log.questions), [])

    def test_scripts_are_refused_nothing(self):
        questions = {rights.question(role, action) for role, command in commands() for action in actions(command)}
        self.assertLessEqual({("operations", "ssm:SendCommand"), ("rotate-password", "secretsmanager:PutSecretValue"), ("deploy", "ecr:DescribeImages"),
                              ("release", "ecr:PutImage"), ("smoke", "s3:DeleteObjectVersion"), ("smoke", "secretsmanager:PutSecretValue")}, {(each.role, each.action) for each in questions})
        self.assertEqual(self.refused(questions), [])

    def test_a_plan_reads_no_data(self):
        read = {action for action in DATA if rights.allowed(self.policies["plan"], rights.question("plan", action, "arn:aws:of:somebody:else"))}
        self.assertEqual(read, set())
        for bucket, code in {"state-global": True, "dob-backups-123456789012-eu-west-1": False, "others": False}.items():
            asked = rights.question("plan", "s3:GetObject", f"arn:aws:s3:::{bucket}/terraform.tfstate")
            self.assertEqual(rights.allowed(self.policies["plan"], asked), code, bucket)
        for service, code in {"dob": True, "other": False}.items():
            asked = rights.question("plan", "ec2:DescribeInstanceAttribute", **{"aws:ResourceTag/Service": service})
            self.assertEqual(rights.allowed(self.policies["plan"], asked), code, service)

    def test_the_restore_drill_takes_no_other_node(self):
        for name, code in {"dob-eu-central-1-r": True, "dob-eu-central-1-a": False}.items():
            for action in ("ec2:MonitorInstances", "ec2:TerminateInstances"):
                asked = rights.question("restore-drill", action, "arn:aws:ec2:eu-central-1:123456789012:instance/i-1", **{"aws:ResourceTag/Name": name})
                self.assertEqual(rights.allowed(self.policies["restore-drill"], asked), code, (action, name))
            record = rights.question("restore-drill", "route53:ChangeResourceRecordSets", **{"route53:ChangeResourceRecordSetsNormalizedRecordNames": f"{name}.dob.internal"})
            self.assertEqual(rights.allowed(self.policies["restore-drill"], record), code, name)
        # A volume has its name already if it is tagged again because the answer was lost.
        for name, code in {None: True, "dob-eu-central-1-r": True, "dob-eu-central-1-a-data": False}.items():
            context = {"ec2:CreateAction": None, "aws:RequestTag/Name": "dob-eu-central-1-r", "aws:ResourceTag/Name": name, "aws:ResourceTag/ebs.csi.aws.com/cluster": None}
            named = rights.question("restore-drill", "ec2:CreateTags", "arn:aws:ec2:eu-central-1:123456789012:volume/vol-1", **context)
            self.assertEqual(rights.allowed(self.policies["restore-drill"], named), code, name)

    def test_no_role_has_more_policy_than_aws_takes(self):
        for role in self.policies:
            document = emulator.client("iam").get_role_policy(RoleName=f"dob-{role}", PolicyName=role)["PolicyDocument"]
            self.assertLessEqual(len(json.dumps(document, separators=(",", ":"))), 10240, role)


def workflow_roles():
    return set(workflows.hcl("global/github.tf")["locals"][0]["roles"][0])


def commands():
    """Each role with the commands of the steps that have its credentials, including the scripts that they call."""
    def whole(command, seen=frozenset()):
        named = workflows.scripts(command) - seen
        return "\n".join([command, *(whole(workflows.code(name), seen | named) for name in named)])

    for path in workflows.FILES:
        for job in workflows.load(path.name)["jobs"].values():
            role = None
            for step in job.get("steps", []):
                role = step.get("with", {}).get("role-to-assume", role)
                name = (role or "").rpartition("role/dob-")[2]
                if "run" in step and name in workflow_roles():
                    yield name, whole(step["run"])


def actions(command):
    for words, asked in PROGRAMS.items():
        if re.search(rf"\b{words}\b", command):
            yield from asked
    # Not in a list, such as `for tool in aws kubectl`.
    for service, operation in re.findall(r"(?<!\bin )\baws ([a-z0-9-]+) ([a-z]+-[a-z-]+)", command):
        asked = f"{rights.SERVICES.get(service, service)}:{''.join(word.title() for word in operation.split('-'))}"
        if f"aws {service} {operation}" not in PROGRAMS and asked not in rights.FREE:
            yield asked


class TearDown(unittest.TestCase):
    """Runs the unchanged commands of README.md on what Region has applied, and then what the smoke run also deletes."""

    def test_what_was_made_goes_but_for_the_data(self):
        [commands] = re.findall(r"## Tearing down\n.*?```sh\n(.*?)```", (TERRAFORM / "README.md").read_text(), re.S)
        for name, root in roots.items():
            (root.folder / "terraform.tfvars.json").write_text(json.dumps(root.variables))
        # As in the smoke run, each side is destroyed by the role that has applied it.
        as_role = 'scripts/tear-down() { AWS_ACCESS_KEY_ID=apply-$1 command scripts/tear-down "$@"; }\n'
        self.run_commands(as_role + commands, TF_CLI_ARGS_destroy="-auto-approve -input=false -no-color")
        for root in REGIONS:
            self.assertNotIn("values", json.loads(roots[root].run("show", "-json")))
        for side in SIDES:
            volumes = emulator.client("ec2", REGIONS[side]).describe_volumes(Filters=[{"Name": "tag:Name", "Values": ["dob-*-data"]}])["Volumes"]
            self.assertEqual(len(volumes), 2)
            self.assertEqual(emulator.client("ecr", REGIONS[side]).describe_repositories()["repositories"], [])
        self.run_commands(f"scripts/remove-data $account {REGIONS['primary']} {REGIONS['recovery']}", AWS_ACCESS_KEY_ID="smoke")
        for side in SIDES:
            self.assertEqual(emulator.client("ec2", REGIONS[side]).describe_volumes()["Volumes"], [])
            self.assertEqual(emulator.client("secretsmanager", REGIONS[side]).list_secrets(IncludePlannedDeletion=True)["SecretList"], [])
        self.assertEqual({bucket["Name"] for bucket in emulator.client("s3").list_buckets()["Buckets"]}, {f"state-{root}" for root in REGIONS})
        asked = {(each.role, each.action) for each in log.questions}
        self.assertLessEqual({("apply-primary", "eks:DeleteCluster"), ("apply-recovery", "ec2:DeleteVpc"), ("smoke", "ec2:DeleteVolume")}, asked)
        self.assertEqual(Rights.refused(log.questions), [])

    def run_commands(self, commands, **environment):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=tree.parent, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "account": rights.ACCOUNT, **environment})
        self.assertEqual(done.returncode, 0, done.stdout[-6000:])


if __name__ == "__main__":
    unittest.main(verbosity=2)
