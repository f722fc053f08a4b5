"""The log shipper reads the pods' logs and nothing else. The tests of terraform/modules/eks check where it may write."""

import pytest
import yaml

import schemas
from rendering import ROOT, find, of_kind, render

LOGS = render(ROOT / "k8s/logs")
POD = find(LOGS, "DaemonSet", "shipper")["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
CONFIGURATION = yaml.safe_load((ROOT / "k8s/logs/collector.yaml").read_text())


@pytest.mark.parametrize("resource", LOGS, ids=lambda resource: resource["kind"])
def test_every_resource_fits_its_schema(resource):
    assert schemas.problems(resource) == []


def test_its_image_is_the_one_that_makes_metrics():
    [collector] = [document for document in yaml.safe_load_all((ROOT / "k8s/observability/collector.yaml").read_text()) if document["kind"] == "StatefulSet"]
    assert CONTAINER["image"] == collector["spec"]["template"]["spec"]["containers"][0]["image"]


def test_it_reads_logs_and_keeps_its_place_and_nothing_else_of_the_node():
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in POD["volumes"] if "hostPath" in volume}
    assert volumes == {"logs": "/var/log/pods", "state": CONFIGURATION["extensions"]["file_storage"]["directory"]}
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert mounts["logs"]["readOnly"] and {name: mounts[name]["mountPath"] for name in volumes} == volumes
    assert all(path.startswith(f"{volumes['logs']}/") for path in CONFIGURATION["receivers"]["filelog"]["include"])
    assert CONTAINER["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(POD) and not of_kind(LOGS, "ClusterRoleBinding")


def test_it_runs_on_every_node_and_uses_all_that_is_configured():
    assert POD["tolerations"] == [{"operator": "Exists"}]
    used = CONFIGURATION["service"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(used["pipelines"]["logs"][kind]) == set(CONFIGURATION[kind])
    assert set(used["extensions"]) == set(CONFIGURATION["extensions"])
    assert CONFIGURATION["exporters"]["awscloudwatchlogs"]["log_stream_name"] == "${env:%s}" % CONTAINER["env"][0]["name"]
