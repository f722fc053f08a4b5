"""What spin-operator makes of a SpinApp, and which of a Deployment's fields it sends and so owns.

Written after the source of VERSION: constructDeployment in internal/controller/spinapp_controller.go,
ConstructEnvForApp and ConstructVolumeMountsForApp in internal/controller/deployment.go, constructService in
internal/controller/service.go. It applies both on the server as the manager "spin-operator", with force.
"""

VERSION = "0.6.1"
PORT = {"name": "http-app", "containerPort": 80}


def deployment(app: dict, executor: dict) -> dict:
    """The Deployment as the operator sends it, empty objects that Go writes out included."""
    name, spec, config = app["metadata"]["name"], app["spec"], executor["spec"]["deploymentConfig"]
    pod_labels = {"core.spinkube.dev/app-name": name, **service_selector(name)}
    volumes, mounts = certificates(config.get("caCertSecret"))
    container = {
        "name": name,
        "image": spec["image"],
        "command": ["/"],
        "ports": [PORT],
        "env": environment(spec, config.get("otel") or {}),
        "resources": spec.get("resources", {}),
    }
    for probe, field in (("liveness", "livenessProbe"), ("readiness", "readinessProbe")):
        if probe in spec.get("checks", {}):
            container[field] = with_port(spec["checks"][probe])
    pod = {
        "runtimeClassName": config["runtimeClassName"],
        "serviceAccountName": spec.get("serviceAccountName", "default"),
        "containers": [container],
    }
    if volumes:
        container["volumeMounts"], pod["volumes"] = mounts, volumes
    if "imagePullSecrets" in spec:
        pod["imagePullSecrets"] = spec["imagePullSecrets"]
    result = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**metadata(app), "annotations": spec.get("deploymentAnnotations", {})},
        "spec": {
            "selector": {"matchLabels": pod_labels},
            "strategy": {},
            "template": {
                "metadata": {
                    "labels": {**spec.get("podLabels", {}), **pod_labels},
                    "annotations": spec.get("podAnnotations", {}),
                },
                "spec": pod,
            },
        },
        "status": {},
    }
    if not spec.get("enableAutoscaling"):
        result["spec"]["replicas"] = spec["replicas"]
    return result


def service(app: dict) -> dict:
    """The Service as the operator sends it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(app),
        "spec": {
            "type": "ClusterIP",
            "selector": service_selector(app["metadata"]["name"]),
            "ports": [{"protocol": "TCP", "port": 80, "targetPort": PORT["name"]}],
        },
    }


def metadata(app: dict) -> dict:
    name = app["metadata"]["name"]
    return {"name": name, "namespace": app["metadata"]["namespace"], "labels": {"core.spinkube.dev/app-name": name}}


def service_selector(name: str) -> dict:
    return {f"core.spinkube.dev/app.{name}.status": "ready"}


def environment(spec: dict, telemetry: dict) -> list[dict]:
    """The container's environment: variables, the address to listen on, telemetry."""
    variables = [
        {"name": f"SPIN_VARIABLE_{v['name'].upper()}", **{key: v[key] for key in ("value", "valueFrom") if key in v}}
        for v in spec.get("variables", [])
    ]
    listen = {"name": "SPIN_HTTP_LISTEN_ADDR", "value": f"0.0.0.0:{PORT['containerPort']}"}
    return [*variables, listen, *({"name": f"OTEL_{key.upper()}", "value": telemetry[key]} for key in telemetry)]


def certificates(secret: str | None) -> tuple[list[dict], list[dict]]:
    """Volume and mount of the trust store."""
    if not secret:
        return [], []
    file = "ca-certificates.crt"
    source = {"secretName": secret, "optional": True, "items": [{"key": file, "path": file}]}
    mount = {"name": "spin-ca", "readOnly": True, "mountPath": f"/etc/ssl/certs/{file}", "subPath": file}
    return [{"name": "spin-ca", "secret": source}], [mount]


def with_port(probe: dict) -> dict:
    return {**probe, "httpGet": {**probe["httpGet"], "port": PORT["containerPort"]}}
