"""serving/tests/kept_crds.json: what other projects' definitions (CRDs) say of the fields that our manifests write.

    python scripts/kept_crds.py FOLDER   # of their YAML files, as they lie in the projects' repositories

Of each definition only the fields that a variant in serving/tests/clusters.py writes are kept, without descriptions; any
other is not allowed, so that a field that is new here must be found in the project's definition first. Pods inside are
left to the checks of pods. Taken in August 2026: gateway-api config/crd/standard (4564255), keda config/crd/bases (8b4f083),
jobset config/components/crd (08dfbdf), kuberay ray-operator/config/crd/bases (feeaf72), prometheus-operator
example/prometheus-operator-crd (6adcebc), kserve config/crd/full (aaac4e2), knative serving config/core/300-resources (98e5ef9).
"""

import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "serving" / "tests"), str(ROOT / "serving")]
WORDS = {"type", "enum", "required", "pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
POD = {"containers"}


def cut(schema, values):
    """A schema's part that says something of these values."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {word: schema[word] for word in WORDS & schema.keys() if word not in ("format", "required")}
    objects = [value for value in values if isinstance(value, dict)]
    if "properties" in schema and not any(value.keys() >= POD for value in objects):
        fields = {name for value in objects for name in value}
        if missing := sorted(fields - schema["properties"].keys()):
            raise SystemExit(f"no such field: {', '.join(missing)}; there is: {', '.join(sorted(schema['properties']))}")
        inner = {name: [value[name] for value in objects if name in value] for name in sorted(fields)}
        kept["properties"] = {name: cut(schema["properties"][name], inner[name]) for name in inner}
        kept |= {"additionalProperties": False, "required": sorted(schema.get("required", []))}
    elif isinstance(more := schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = cut(more, [one for value in objects for one in value.values()])
    if "items" in schema:
        kept["items"] = cut(schema["items"], [one for value in values if isinstance(value, list) for one in value])
    return kept


def main():
    """Write the file."""
    from clusters import every_object

    found = {}
    for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
        for crd in yaml.safe_load_all(path.read_text()):
            for version in crd["spec"]["versions"]:
                found[f"{crd['spec']['group']}/{version['name']} {crd['spec']['names']['kind']}"] = version["schema"]
    kept = {}
    for name, schema in sorted(found.items()):
        if written := [one for one in every_object() if f"{one['apiVersion']} {one['kind']}" == name]:
            whole = schema["openAPIV3Schema"]
            whole["properties"]["metadata"] = {"type": "object"}
            kept[name] = cut(whole, written)
    text = json.dumps(kept, indent=1, sort_keys=True)
    (ROOT / "serving" / "tests" / "kept_crds.json").write_text(f"{text}\n")
    print(f"{len(kept)} definitions, {len(text)} bytes")


if __name__ == "__main__":
    main()
