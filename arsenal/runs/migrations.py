"""What run folders of older versions say, in the words of this one. Whatever a version renames gets a line here."""

from typing import Any

SECTIONS = ("every", "early_stopping", "run")
"""Parts of a config that may have got further keys."""
MOVED = {"arsenal.search.launch.": "arsenal.launchers."}
"""Import paths that shipped configs named, by their beginning: 0.2.0."""


def migrate_config(values: dict[str, Any], today: dict[str, Any]) -> dict[str, Any]:
    """The config of an older version; keys that it did not know have their defaults of `today`."""
    kept = values["run"]["checkpoints"]
    if isinstance(kept, int):  # 0.1.0: how many of the newest
        values = values | {"run": values["run"] | {"checkpoints": {"last": kept}}}

    def fill(old, new):
        if not isinstance(old, dict) or not isinstance(new, dict):
            return old
        return old | {key: fill(old[key], value) if key in old else value for key, value in new.items()}

    values = today | {key: fill(value, today[key]) if key in SECTIONS else value for key, value in values.items()}
    return migrate_targets(values)


def migrate_targets(node: Any) -> Any:
    """The tree with every import path where it is now."""
    if isinstance(node, dict):
        return {key: migrate_target(value) if key == "_target_" else migrate_targets(value) for key, value in node.items()}
    return [migrate_targets(value) for value in node] if isinstance(node, list) else node


def migrate_target(target: str) -> str:
    """An import path where it is now.

    >>> migrate_target("arsenal.search.launch.local")
    'arsenal.launchers.local'
    """
    for before, now in MOVED.items():
        if target.startswith(before):
            return now + target.removeprefix(before)
    return target
