"""Keep the schemas of Terraform's providers, of the resources and data that our modules use: `terraform validate` without them.

`python scripts/kept_terraform.py FOLDER` reads unpacked npm packages, FOLDER/{aws,google,azurerm}/package of
@cdktf/provider-*, whose code is made from the providers' own schemas, and writes serving/tests/kept_terraform.json.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
MODULES = HERE / "serving" / "arsenal_serving" / "deploy" / "terraform"
KEPT = HERE / "serving" / "tests" / "kept_terraform.json"
PROVIDERS = {"aws": "aws", "google": "gcp", "azurerm": "azure"}
ATTRIBUTE = re.compile(r"^ +(\w+): \{\n\s+value: (.*),\n\s+isBlock: (true|false),\n\s+type: \"(\w+)\",", re.M)
CLASS = re.compile(r"^class (\w+) extends cdktf\.(\w+) \{(.*?)^\}", re.M | re.S)
GETTER = re.compile(r"^    get (\w+)\(\) \{\n(?:.*\n)*?        return (.*);\n    \}", re.M)
KINDS = {
    "getStringAttribute": "string", "getNumberAttribute": "number", "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"], "getStringMapAttribute": ["map", "string"],
    "getNumberMapAttribute": ["map", "number"],
    "getNumberListAttribute": ["list", "number"], "getBooleanMapAttribute": ["map", "bool"],
    "getAnyMapAttribute": ["map", "dynamic"],
}  # fmt: skip


def main() -> None:
    """Read what the modules name, and write its schemas."""
    root, found = Path(sys.argv[1]), {}
    for provider, cloud in PROVIDERS.items():
        package = root / provider / "package"
        text = "\n".join(path.read_text() for path in sorted((MODULES / f"{cloud}_module").glob("*.tf")))
        used = {kind: sorted(set(re.findall(rf'^{kind} "{provider}_(\w+)"', text, re.M))) for kind in ("resource", "data")}
        made = json.loads((package / "package.json").read_text())["cdktf"]["provider"]["version"]
        found[provider] = {"version": made, "provider": read(package, "provider", f"{provider.title()}Provider")} | {
            kind: {f"{provider}_{name}": read(package, folder(kind, name)) for name in names} for kind, names in used.items()
        }
    KEPT.write_text(json.dumps(found, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{KEPT.relative_to(HERE)}: {KEPT.stat().st_size} bytes")


def folder(kind: str, name: str) -> str:
    """Where the package has a resource."""
    return f"{'data-' if kind == 'data' else ''}PROVIDER-{name}" if kind == "data" else name


def read(package: Path, name: str, own: str = "") -> dict[str, Any]:
    """A resource's schema: attributes with type, and r(equired), o(ptional) or c(omputed), and blocks."""
    provider = package.parent.name
    place = package / "lib" / name.replace("PROVIDER", provider).replace("_", "-")
    script, types = (place / "index.js").read_text(), (place / "index.d.ts").read_text()
    roots = ("TerraformResource", "TerraformDataSource", "TerraformProvider")
    main_class = next(match for match in CLASS.finditer(script) if match[2] in roots)
    return block(script, types, main_class[1], f"{main_class[1]}Config", main_class[3])


def block(script: str, types: str, name: str, settings: str, body: str) -> dict[str, Any]:
    """A block by its class, which has a getter for all that can be read, and by its interface, which has what can be set."""
    asked = interface(types, settings)
    if "synthesizeHclAttributes() {" in body:
        declared = body[body.index("synthesizeHclAttributes() {") :]
    else:
        start = script.index(f"function {name[0].lower()}{name[1:]}ToHclTerraform(struct) {{")
        declared = script[start : script.index("\n}\n", start)]
    attributes: dict[str, list[Any]] = {}
    blocks: dict[str, Any] = {}
    listed = {one: kind for one, kind in getters(body)}
    for key, value, is_block, shape in ATTRIBUTE.findall(declared):
        need = "r" if asked.get(camel(key)) else "o"
        if is_block == "true" and (inner := re.search(r"(\w+)ToHclTerraform[,(]", value)) and "cdktf." not in inner[0]:
            child = inner[1][0].upper() + inner[1][1:]
            nested = next((m for m in CLASS.finditer(script) if m[1] == f"{child}OutputReference"), None)
            inside = block(script, types, child, child, nested[3] if nested else "")
            many = "listMapper" in value
            mode = "single" if shape == "struct" else shape
            blocks[key] = [mode, int(need == "r"), 0 if many or mode == "single" else 1, inside]
        else:
            attributes[key] = [listed.get(key, simple(value, shape)), need]
    for key, kind in listed.items():
        if key not in attributes and key not in blocks:
            attributes[key] = [kind, "c"]
        elif key in attributes and attributes[key][1] == "o":
            attributes[key][1] = "oc"  # whether a provider fills it in is not said: it may
    return {"attributes": attributes, "blocks": blocks}


def getters(body: str) -> list[tuple[str, Any]]:
    """What can be read of a class, by its name in HCL, with its type."""
    found = []
    for _, code in GETTER.findall(body):
        inner = re.search(r"this\.(\w+)\('(\w+)'\)", code)
        if inner and inner[1] in KINDS:
            kind = KINDS[inner[1]]
            found.append((inner[2], ["set", kind[1]] if "tolist" in code and isinstance(kind, list) else kind))
        elif inner and inner[1] == "interpolationForAttribute":
            found.append((inner[2], "dynamic"))
    return found


def simple(value: str, shape: str) -> Any:
    """The type of what has no getter, by how it is written."""
    kind = next((one for one in ("string", "number", "boolean") if f"cdktf.{one}To" in value), "dynamic")
    kind = {"boolean": "bool"}.get(kind, kind)
    return kind if shape == "simple" else [shape, kind] if kind != "dynamic" else "dynamic"


def interface(types: str, name: str) -> dict[str, bool]:
    """The properties of an interface, and whether they must be given."""
    start = re.search(rf"export interface {name}(?: extends [^{{]*)? \{{(.*?)^\}}", types, re.M | re.S)
    return {key: not mark for key, mark in re.findall(r"readonly (\w+)(\??):", start[1] if start else "")}


def camel(name: str) -> str:
    """A name of HCL as TypeScript has it."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


if __name__ == "__main__":
    main()
