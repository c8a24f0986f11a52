"""A page that explains itself and loads nothing: a template of this room with its values, style and script."""

import base64
import hashlib
from importlib.resources import files
from typing import Any


def render(template: str, page: dict[str, Any]) -> str:
    """A template of this room with the page's values in it; one that sets `interactive` has the script, and may run no other."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def read(name: str) -> str:
        return files("arsenal.evaluation").joinpath(name).read_text(encoding="utf-8")

    strict: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    script = read("page.js")
    page = page | {"script": script, "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}
    return Environment(loader=FunctionLoader(read), autoescape=True, **strict).get_template(template).render(page)
