"""What an image holds, as a software bill of materials: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import arsenal_serving
from arsenal_serving.deploy.description import Deployment
from arsenal_serving.deploy.wheel import PROJECT

BLOCK = re.compile(r"^([a-z0-9-]+)==(\S+)( ; [^\n\\]*)?( \\\n(?: {4}--hash=\S+(?: \\)?\n)+)", re.MULTILINE)
VERSION_MARK = re.compile(r"python_full_version (<|>=) '3\.(\d+)'")


def blocks(lock: str, python: str) -> list[tuple[str, str, str]]:
    """Name, version and lines of what a universal lock pins for CPython on Linux; raises `ValueError` for no lock.

    python: as "3.12".
    """
    minor, found = int(python.split(".")[1]), []
    for match in BLOCK.finditer(lock):
        name, version, marker, hashes = match.groups()
        mark = VERSION_MARK.search(marker or "")
        if mark and (minor < int(mark[2])) != (mark[1] == "<"):
            continue
        found.append((name, version, f"{name}=={version}{hashes}"))
    if not found:
        raise ValueError("a lock must have lines NAME==VERSION and their hashes.")
    return found


def bill(made: Deployment, base: str, pinned: list[tuple[str, str, str]], wheel: str = "") -> str:
    """The bill of the image of a deployment, as JSON.

    base: the image that it stands on. pinned: as of `blocks`. wheel: the hash of the server's own wheel.
    """
    image = made.image.reference
    server: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{PROJECT}@{arsenal_serving.__version__}",
        "name": PROJECT,
        "version": arsenal_serving.__version__,
        "purl": f"pkg:pypi/{PROJECT}@{arsenal_serving.__version__}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    if wheel:
        server["hashes"] = [{"alg": "SHA-256", "content": wheel}]
    components = [_container(base), server]
    for name, version, lines in pinned:
        # Which of a release's files is installed the platform decides: its hashes are those of the lock.
        purl = f"pkg:pypi/{name}@{version}"
        component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        sums = re.findall(r"--hash=sha256:([0-9a-f]{64})", lines)
        listed = [{"alg": "SHA-256", "content": one} for one in sums]
        components.append(component | {"externalReferences": [{"type": "distribution", "url": purl, "hashes": listed}]})
    refs = [component["bom-ref"] for component in components]
    if made.model.source != "mounted":
        model: dict[str, Any] = {
            "type": "machine-learning-model",
            "bom-ref": f"model:{made.model.name}@{made.model.version}",
            "name": made.model.name,
            "version": str(made.model.version),
        }
        if made.model.digest:
            model["hashes"] = [{"alg": "SHA-256", "content": made.model.digest.removeprefix("sha256:")}]
        components.append(model)
        refs.append(model["bom-ref"])
    top = {"type": "container", "bom-ref": f"image:{image}", "name": made.image.name}
    top["version"] = made.image.tag or "latest"
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "",
        "version": 1,
        "metadata": {"component": top},
        "components": components,
        "dependencies": [{"ref": top["bom-ref"], "dependsOn": refs}],
    }
    # The same contents have the same number.
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True)).urn
    return json.dumps(document, indent=1) + "\n"


def _container(reference: str) -> dict[str, Any]:
    place, _, digest = reference.partition("@")
    name, _, tag = place.rpartition(":")
    found: dict[str, Any] = {"type": "container", "bom-ref": f"image:{place}", "name": name or place, "version": tag}
    if digest:
        found["hashes"] = [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]
    return found
