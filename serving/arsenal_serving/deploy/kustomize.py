"""Kustomize: what environments share as a base, and an overlay each with what is its own.

Both are taken from the manifests of `kubernetes`: the base is what every environment says alike, an overlay adds the
rest as JSON patches (RFC 6902), so that `kubectl kustomize overlays/ENV` gives those manifests again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from arsenal_serving.deploy import kubectl, kubernetes, unheard
from arsenal_serving.deploy.commands import find, run
from arsenal_serving.deploy.description import Deployment
from arsenal_serving.deploy.yaml_text import from_yaml, to_yaml
from arsenal_serving.refused import Refused

CONFIG = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
Document = dict[str, Any]


def files(made: Deployment, *others: Deployment) -> dict[str, str]:
    """base/ and overlays/ENV/ of one deployment, or of the same one in several environments.

    Raises `Refused` for two of one environment, and for deployments of several names.

    >>> sorted(path for path in files(Deployment()) if "kustomization" in path)
    ['base/kustomization.yaml', 'overlays/development/kustomization.yaml']
    """
    every = [made, *others]
    if len({one.env for one in every}) < len(every) or len({one.name for one in every}) > 1:
        said = ", ".join(f"{one.name} in {one.env}" for one in every)
        raise Refused(f"overlays are of one deployment, one for each environment; got {said}.")
    targets = [kubernetes.manifests(one) for one in every]
    first, *rest = [{stem: _plain(document) for stem, document in target.items()} for target in targets]
    base = {stem: document for stem, document in first.items() if all(stem in other for other in rest)}
    base.pop("namespace", None)
    for other in rest:
        base = {stem: _shared(document, other[stem]) for stem, document in base.items()}
    written = {f"base/{stem}.yaml": to_yaml(document) for stem, document in base.items()}
    written["base/kustomization.yaml"] = to_yaml(CONFIG | {"resources": [f"{stem}.yaml" for stem in base]})
    for one, target in zip(every, targets, strict=True):
        written |= {f"overlays/{one.env}/{path}": text for path, text in _overlay(one, target, base).items()}
    return written


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("kustomize", made)


def apply(folder: Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Bring what the environment's overlay in a folder builds to the cluster that the profile names."""
    text = run([find("kubectl"), "kustomize", str(Path(folder) / "overlays" / made.env)], seconds=60)
    kubectl.apply(made, from_yaml(text), say)


def _overlay(made: Deployment, target: Mapping[str, Document], base: Mapping[str, Document]) -> dict[str, str]:
    own = {stem: document for stem, document in target.items() if stem not in base}
    patches: list[Document] = []
    for stem, document in base.items():
        if steps := list(_steps(document, _plain(target[stem]), "")):
            chosen = {"kind": document["kind"], "name": document["metadata"]["name"]}
            patches.append({"target": chosen, "patch": to_yaml(steps).partition("\n")[2]})
    parts = ["../../base", *(f"{stem}.yaml" for stem in own)]
    text: Document = CONFIG | {"namespace": made.namespace, "resources": parts}
    text |= {"patches": patches} if patches else {}
    return {f"{stem}.yaml": to_yaml(document) for stem, document in own.items()} | {"kustomization.yaml": to_yaml(text)}


def _plain(document: Document) -> Document:
    """Without the namespace, which kustomize writes."""
    if document["kind"] == "Namespace":
        return document
    head = {key: value for key, value in document["metadata"].items() if key != "namespace"}
    return document | {"metadata": head}


def _alike(one: Any, other: Any) -> bool:
    """Whether two values have parts that can be compared: two sections, or two lists of as many sections."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(isinstance(part, dict) for part in [*one, *other])
    return isinstance(one, dict) and isinstance(other, dict)


def _shared(one: Any, other: Any) -> Any:
    """What two values that are alike both say."""
    if isinstance(one, list):
        return [_shared(*parts) for parts in zip(one, other, strict=True)]
    return {
        key: value if value == other[key] else _shared(value, other[key])
        for key, value in one.items()
        if key in other and (value == other[key] or _alike(value, other[key]))
    }


def _steps(one: Any, other: Any, path: str) -> Iterator[Document]:
    """What a base lacks of a value, as additions."""
    parts = enumerate(other) if isinstance(other, list) else other.items()
    for key, value in parts:
        place = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if isinstance(other, dict) and key not in one:
            yield {"op": "add", "path": place, "value": value}
        elif value != one[key]:
            yield from _steps(one[key], value, place)
