"""The registry: models by name, their versions, aliases, history and lineage, in a folder or a bucket by URL."""

from arsenal.runs.registry.events import RegistryError
from arsenal.runs.registry.versions import Registry, open_registry

__all__ = ["Registry", "RegistryError", "open_registry"]
