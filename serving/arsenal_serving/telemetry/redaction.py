"""What must not reach the disk: inputs and outputs, or columns of them, by name or pattern, as `--redact` has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from arsenal_serving.refused import unknown_name

if TYPE_CHECKING:  # they import jax, which the command's options do not need
    from arsenal_serving.model import ServedModel
    from arsenal_serving.repository.models import Repository


def is_pattern(name: str) -> bool:
    """Whether a name stands for several, by *, ? or [...]."""
    return bool(set(name) & set("*?["))


class Redaction:
    """Names such as `x`, `x.city` and `x.*name*`."""

    def __init__(self, names: Iterable[str] = ()):
        self._plain = {name for name in names if not is_pattern(name)}
        self._patterns = set(names) - self._plain

    def __bool__(self) -> bool:
        """Whether anything is redacted."""
        return bool(self._plain or self._patterns)

    def check(self, repository: Repository) -> None:
        """Raise `Refused` for a name that no model that is ready has: it would redact nothing."""
        known = {name for _, _, model in repository.ready() for name in _names(model)}
        for name in sorted(self._plain - known):
            raise unknown_name("--redact", name, known)
        for name in sorted(self._patterns):
            if not any(fnmatchcase(one, name) for one in known):
                raise unknown_name("--redact", name, known)

    def columns(self, ports: Sequence[Mapping[str, Any]], names: Sequence[str], inward: bool) -> list[str]:
        """Of columns as `PortColumns` names those of a manifest's ports, the ones that are gone."""
        gone: list[str] = []
        for port in ports:
            labels = port["columns"] or []
            mine = labels if inward else [f"{port['name']}.{label}" for label in labels]
            at = self.hidden(port["name"], labels)
            gone += [port["name"], *mine] if at is None else [mine[place] for place in at]
        return [name for name in names if any(name == one or name.startswith(f"{one}.") for one in gone)]

    def hidden(self, port: str, columns: Sequence[str]) -> list[int] | None:
        """The places of an input's or output's columns that are gone; None where all of it is."""
        head = f"{port}."
        named = {name.removeprefix(head) for name in self._plain if name.startswith(head)}
        fitting = [column for column in columns if any(fnmatchcase(head + column, one) for one in self._patterns)]
        whole = port in self._plain or any(fnmatchcase(port, one) for one in self._patterns)
        whole |= not columns and any(one.rpartition(".")[0] == port for one in self._patterns)
        # Of a version that has no such column nobody knows where it is: then all of it is gone.
        if whole or not named <= set(columns):
            return None
        named |= set(fitting)
        return [at for at, column in enumerate(columns) if column in named]


NOTHING = Redaction()


def _names(model: ServedModel) -> Iterable[str]:
    for method in model.methods.values():
        for port in (*method.inputs, *method.outputs):
            yield port.name
            yield from (f"{port.name}.{column}" for column in port.columns or ())
