"""imitated_kubectl.py KUBECTL FOLDER ARGUMENT...: kubectl for test_rollout.py.

Renders with the real kubectl. It records every other call, and stores what a cluster would store: the spec of each SpinApp, the annotation
with the spec that served, and the inventory of what rollouts have applied. FOLDER/trouble.json says which calls fail. It also has a
regular expression: once the recorded calls match it, the rollout is killed."""

import json
import os
import re
import signal
import sys
from pathlib import Path

SPEC, SERVED = "spec", "served"


def asked(folder: Path, arguments: list[str]) -> None:
    words, trouble, file = " ".join(arguments), json.loads((folder / "trouble.json").read_text()), folder / "apps.json"
    with open(folder / "calls", "a+") as calls:
        calls.write(re.sub(r"--filename=[^ -]\S*", "FILE", words) + "\n")
        calls.seek(0)
        if re.search(trouble.get("killed_at", "never"), calls.read()):
            os.killpg(0, signal.SIGKILL)
    apps = json.loads(file.read_text()) if file.exists() else {"dob-api-schema": {}, "dob-api": {}}
    answer(words, arguments, trouble, apps, folder)
    file.write_text(json.dumps(apps))


def answer(words: str, arguments: list[str], trouble: dict, apps: dict, folder: Path) -> None:
    inventory = folder / "inventory"
    if "dob-rollout-inventory" in arguments:
        print(inventory.read_text() if inventory.exists() else "")
        return
    app = apps["dob-api-schema" if re.search("dob-api-schema|step=schema", words) else "dob-api"]
    if "--dry-run=server" in arguments:
        if trouble.get("refused") in arguments:
            sys.exit(trouble["words"])
    elif "--filename=-" in arguments:
        resource = json.load(sys.stdin)
        if resource["kind"] == "ConfigMap":
            inventory.write_text(resource["data"]["applied"])
            return
        (folder / "rolled_back").write_text(json.dumps(resource))
        apps[resource["metadata"]["name"]][SPEC] = resource[SPEC]
    elif "--selector=dob-api/step=" in words:
        text = Path(arguments[-1].partition("=")[2]).read_text()
        (folder / "applied").write_text(text)
        image, mark = (re.search(pattern, text)[1] for pattern in (r"image: .*/dob-api@(\S+)", r"rendered: (\S+)"))
        app[SPEC] = {"image": image, "deploymentAnnotations": {"rendered": mark}}
    elif "annotate" in arguments:
        if trouble.get("operator_gone"):
            sys.exit("failed calling webhook")
        app[SERVED] = arguments[-1].partition("=")[2]
    elif arguments[-1].endswith(".rendered}"):
        print(app[SPEC]["deploymentAnnotations"]["rendered"])
    elif arguments[-1].endswith("/served}"):
        print(app.get(SERVED, ""))
    elif arguments[-1].endswith("{.spec}"):
        print(json.dumps(app[SPEC]) if SPEC in app else "")
    elif "status" in arguments:
        sys.exit(app[SPEC]["image"] in trouble.get("broken", {}).get(arguments[3].partition("/")[2], ()))
    elif arguments[-1] == "--output=name":
        [asked] = [argument for argument in arguments if "/" in argument]
        print("" if asked in trouble.get("gone", ()) else asked.lower())
    elif "pods" in arguments:
        print(trouble.get("leaving", ""))
    elif "--for=delete" in arguments:
        sys.exit(trouble.get("stuck", False))


if __name__ == "__main__":
    kubectl, folder, *arguments = sys.argv[1:]
    if arguments[0] == "kustomize":
        os.execv(kubectl, [kubectl, *arguments])
    asked(Path(folder), arguments)
