"""Documents as the YAML text that every target writes: block style, keys in the order given, its origin first."""

from __future__ import annotations

from typing import Any

HEAD = "# Generated from a deployment's profile; change that and write again.\n"


def to_yaml(*documents: Any) -> str:
    """One text of one or more documents.

    Raises `ImportError` with the install line where pyyaml is missing (the extra `deploy`).

    >>> print(to_yaml({"kind": "Service", "ports": [80]}, {"kind": "Secret"}).split("again.")[1].strip())
    kind: Service
    ports:
    - 80
    ---
    kind: Secret
    """
    try:
        import yaml
    except ImportError as missing:
        raise ImportError("Files of a deployment need pyyaml: pip install 'ml-arsenal-serving[deploy]'") from missing

    class Plain(yaml.SafeDumper):
        """No anchors: a value that stands twice is written twice."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Plain.add_representer(str, text)
    options: dict[str, Any] = {"sort_keys": False, "width": 120, "allow_unicode": True, "default_flow_style": False}
    return HEAD + "---\n".join(yaml.dump(one, Dumper=Plain, **options) for one in documents)
