"""Parameters of one model as the beginning of another's, leaf by leaf, by their paths."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from arsenal.optim.groups import by_path, quote


class Transfer(NamedTuple):
    """The parameters, and what became of each leaf."""

    params: Any
    taken: dict[str, str]
    """Path here by path there."""
    missing: list[str]
    """Leaves here that nothing there became; they are as they were."""
    unused: list[str]
    """Leaves there that became nothing here."""


def transfer(source: Any, target: Any, names: Mapping[str, str | None] = {}, allow: Sequence[str] = ()) -> Transfer:
    """`target` with every leaf replaced by that of `source` with the same path, once `names` has renamed those.

    `names` maps patterns to replacements as `re.sub` takes them. A pattern is a regular expression for a path such as
    `params/Dense_0/kernel` or for its first names, `params/Dense_0`; a leaf whose replacement is None is left out.
    Raises ValueError for a pattern that matches nothing, for two that match one leaf, for two leaves with one name, for
    another shape, and, unless `allow` names `missing` or `unused`, for leaves without a counterpart.

    >>> found = transfer({"old": jax.numpy.ones(2)}, {"new": jax.numpy.zeros(2)}, {"old": "new"})
    >>> found.params["new"].tolist(), found.taken
    ([1.0, 1.0], {'old': 'new'})
    """
    there = {"/".join(path): leaf for path, leaf in by_path(source).items()}
    here = {"/".join(path): leaf for path, leaf in by_path(target).items()}
    renamed: dict[str, str] = {}
    for path in there:
        fitting = [pattern for pattern in names if re.match(anchor(pattern), path)]
        if len(fitting) > 1:
            raise ValueError(f"The patterns {quote(fitting)} of `init_map` overlap: all match `{path}`.")
        replacement = re.sub(anchor(fitting[0]), names[fitting[0]] or "", path, count=1) if fitting else path
        if not fitting or names[fitting[0]] is not None:
            renamed[path] = replacement
    for pattern in names:
        if not any(re.match(anchor(pattern), path) for path in there):
            raise ValueError(f"The pattern `{pattern}` of `init_map` matches no parameter; there are {quote(there)}.")
    taken: dict[str, str] = {}
    for path, name in renamed.items():
        if name in taken.values():
            first = next(other for other, known in taken.items() if known == name)
            raise ValueError(f"`init_map` gives `{first}` and `{path}` one name, `{name}`.")
        if name not in here:
            continue
        if there[path].shape != here[name].shape:
            raise ValueError(f"`{name}` has shape {here[name].shape} here; `{path}` has {there[path].shape}. Map it to null.")
        taken[path] = name
    back = {name: path for path, name in taken.items()}
    missing, unused = [name for name in here if name not in back], [path for path in there if path not in taken]
    for word, paths in (("missing", missing), ("unused", unused)):
        if paths and word not in allow:
            raise ValueError(
                f"`init_from` leaves {quote(paths)} {word}; map them with `init_map`, or allow it with init_allow=[{word}]."
            )
    leaves = [there[back[name]].astype(leaf.dtype) if name in back else leaf for name, leaf in here.items()]
    return Transfer(jax.tree.unflatten(jax.tree.structure(target), leaves), taken, missing, unused)


def anchor(pattern: str) -> str:
    """The pattern for the first names of a path, whole names only."""
    return rf"^(?:{pattern})(?=/|$)"
