"""Documents as the YAML text that every target writes: block style, keys in the order given, its origin first."""

from __future__ import annotations

from typing import Any

from arsenal_serving.deploy.description import ORIGIN


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
    yaml = _yaml()

    # No anchors: a value that stands twice is written twice.
    plain: Any = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    plain.add_representer(str, text)
    options: dict[str, Any] = {"sort_keys": False, "width": 120, "allow_unicode": True, "default_flow_style": False}
    return f"{ORIGIN}\n" + "---\n".join(yaml.dump(one, Dumper=plain, **options) for one in documents)


def from_yaml(text: str) -> list[Any]:
    """The documents of a text, empty ones apart."""
    return [one for one in _yaml().safe_load_all(text) if one is not None]


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as missing:
        raise ImportError("Files of a deployment need pyyaml: pip install 'ml-arsenal-serving[deploy]'") from missing
    return yaml
