"""Manifests onto a cluster, by kubectl: looked at first, tried on the server, applied, and waited for.

What cannot be is refused before anything is changed: a cluster that is not there, a context other than the one named, a
namespace of somebody else, a secret that is missing, whatever the server would not take.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from arsenal_serving.deploy.cluster import OWNER, settings
from arsenal_serving.deploy.commands import find, run
from arsenal_serving.deploy.description import Deployment
from arsenal_serving.deploy.yaml_text import to_yaml
from arsenal_serving.refused import Refused, show

ANSWER = "15s"
"""In which a cluster must answer."""
OLDEST = (1, 30)
PRUNED = ["configmap", "service", "deployment", "poddisruptionbudget", "horizontalpodautoscaler", "ingress"]
MORE = ["httproute.gateway.networking.k8s.io", "scaledobject.keda.sh"]
MORE += ["podmonitor.monitoring.coreos.com", "prometheusrule.monitoring.coreos.com"]
"""Kinds that a deployment may have left from before; a job is who started it's to end."""
Say = Callable[[str], Any]


def connect(made: Deployment) -> list[str]:
    """kubectl's words for the cluster that the profile names; raises `Refused` where another one would be meant."""
    own = settings(made)
    program = find("kubectl", install="https://kubernetes.io/docs/tasks/tools")
    if not own.context:
        raise Refused("`extra.kubernetes.context` must name the context to act in: kubectl config get-contexts.")
    known = run([program, "config", "get-contexts", "-o", "name"], seconds=30).split()
    if own.context not in known:
        listed = ", ".join(map(show, known[:20])) or "none"
        raise Refused(f"kubectl knows no context {show(own.context)} of `extra.kubernetes.context`; it has: {listed}.")
    now = run([program, "config", "view", "-o", "jsonpath={.current-context}"], seconds=30).strip()
    if now != own.context:
        said = f"kubectl's context is {show(now)}, and `extra.kubernetes.context` names {show(own.context)}"
        raise Refused(f"{said}: kubectl config use-context {own.context}.")
    words = [program, f"--context={own.context}", f"--request-timeout={ANSWER}"]
    try:
        version = json.loads(ask(words, "get", "--raw", "/version"))
    except (Refused, ValueError) as error:
        raise Refused(f"no cluster answers in the context {show(own.context)}: {_last(error)}") from error
    there = tuple(int("".join(c for c in version[part] if c.isdigit())) for part in ("major", "minor"))
    if there < OLDEST and own.pre_stop == "sleep" and made.timings.detach:
        said = f"the cluster is {version['major']}.{version['minor']}, and the `sleep` action is of 1.30"
        raise Refused(f"{said}: `extra.kubernetes.pre_stop=exec` does without.")
    return words


def ask(
    words: Sequence[str], *command: str, seconds: float = 60, given: str | None = None, say: Say | None = None
) -> str:
    """What kubectl says to a command, by the words of `connect`; raises `Refused`."""
    return run([words[0], *command, *words[1:]], seconds=seconds, given=given, say=say)


def check_namespace(words: Sequence[str], made: Deployment) -> bool:
    """Whether the namespace is there; raises `Refused` where it is somebody else's, or not to be made."""
    own = settings(made)
    text = ask(words, "get", "namespace", made.namespace, "--ignore-not-found", "-o", "json")
    if not text.strip():
        if own.namespace == "have":
            raise Refused(f"there is no namespace {made.namespace}, and `extra.kubernetes.namespace=have` makes none.")
        return False
    found = json.loads(text)
    labels = found["metadata"].get("labels") or {}
    owner = labels.get(OWNER, "")
    if owner and owner != made.owner:
        whose = f"is {show(owner)}'s (label {OWNER})"
        raise Refused(f"the namespace {made.namespace} {whose}; `owner` is {show(made.owner)}.")
    if own.namespace == "make" and labels.get("app.kubernetes.io/managed-by") != "arsenal":
        said = f"the namespace {made.namespace} is there and not arsenal's"
        raise Refused(f"{said}: `extra.kubernetes.namespace=have` deploys into it and leaves its labels.")
    if found.get("status", {}).get("phase") == "Terminating":
        raise Refused(f"the namespace {made.namespace} is being deleted; try again when it is gone.")
    return True


def apply(made: Deployment, documents: Sequence[dict[str, Any]], say: Say, ready: str = "") -> None:
    """Bring these objects to the cluster and wait until the server is ready; raises `Refused` in one line.

    A namespace that was made for objects which the cluster does not take is deleted again; a roll-out that does not
    become ready is undone. Of this deployment's objects those that are no longer there are deleted.

    ready: what is waited for where somebody else's controller makes the Deployments, which then are its to delete.
    """
    words = connect(made)
    first = [one for one in documents if one["kind"] == "Namespace"]
    rest = [one for one in documents if one["kind"] != "Namespace"]
    there = check_namespace(words, made)
    check_secrets(words, made, there)
    if first:
        send(words, first, "--dry-run=server")
        send(words, first)
    say(f"namespace {made.namespace}: {'there' if there else 'made'}")
    inside = [*words, f"--namespace={made.namespace}"]
    try:
        send(inside, rest, "--dry-run=server")
    except Refused:
        if first and not there:
            ask(words, "delete", "namespace", made.namespace, "--wait=false")
        raise
    before = ask(inside, "get", "deployment", made.name, "--ignore-not-found", "-o", "name").strip()
    for line in send(inside, rest).splitlines():
        say(line)
    if ready:
        seconds = made.timings.start + made.timings.grace + 60
        patient = [word for word in inside if not word.startswith("--request-timeout")]
        command = ["wait", "--for=condition=Ready", ready, f"--timeout={seconds}s"]
        ask(patient, *command, seconds=seconds + 30, say=say)
        return
    _wait(inside, made, [one for one in rest if one["kind"] == "Deployment"], bool(before), say)
    _prune(inside, made, documents, say)


def send(words: Sequence[str], documents: Sequence[dict[str, Any]], *more: str) -> str:
    """Apply on the server, as the owner `arsenal` of what is said; what kubectl says."""
    command = ["apply", "--server-side", "--field-manager=arsenal", *more, "-f", "-"]
    return ask(words, *command, seconds=300, given=to_yaml(*documents))


def check_secrets(words: Sequence[str], made: Deployment, there: bool) -> None:
    """Raise `Refused` for a secret that is named and not there: its pods would wait for it.

    there: whether the namespace is, without which there is no secret.
    """
    access, own = made.access, settings(made)
    named = {"access.keys_secret": access.keys_secret, "access.tls_secret": access.tls_secret}
    named |= {"image.pull_secret": made.image.pull_secret, "extra.kubernetes.metrics_secret": own.metrics_secret}
    if access.host and own.entry == "gateway":
        named.pop("access.tls_secret")
    for path, name in named.items():
        try:
            command = ["get", "secret", name, f"--namespace={made.namespace}", "--ignore-not-found", "-o", "name"]
            missing = bool(name) and not (there and ask(words, *command).strip())
        except Refused as error:
            if "forbidden" not in str(error).lower():
                raise
            missing = False  # who deploys may be one who must not read secrets
        if missing:
            said = f"`{path}` names {name}, and the namespace {made.namespace} has no such secret"
            raise Refused(f"{said}: make it there (see namespace.yaml) and try again.")


def _wait(words: Sequence[str], made: Deployment, all_of: Sequence[dict[str, Any]], before: bool, say: Say) -> None:
    seconds = made.timings.start + made.timings.grace + 60
    for one in all_of:
        name = one["metadata"]["name"]
        patient = [word for word in words if not word.startswith("--request-timeout")]  # which would end the watch
        try:
            command = ["rollout", "status", f"deployment/{name}", f"--timeout={seconds}s"]
            ask(patient, *command, seconds=seconds + 30, say=say)
        except Refused as error:
            after = "it stays as it is, for you to look at"
            if before:
                ask(words, "rollout", "undo", f"deployment/{name}")
                after = "it was undone"
            said = f"deployment/{name} did not become ready in {seconds} s, and {after}"
            raise Refused(f"{said}: {_last(error)}") from error


def _prune(words: Sequence[str], made: Deployment, documents: Sequence[dict[str, Any]], say: Say) -> None:
    """Delete what a deployment of this name had and has no more: a canary's service would go on getting calls."""
    kept = {(one["kind"].lower(), one["metadata"]["name"]) for one in documents}
    chosen = f"app.kubernetes.io/instance={made.name},app.kubernetes.io/managed-by=arsenal"
    there = set(ask(words, "api-resources", "--no-headers", "-o", "name").split())
    more = [kind for kind in MORE if f"{kind.partition('.')[0]}s.{kind.partition('.')[2]}" in there]
    found = ask(words, "get", ",".join(PRUNED + more), "--selector", chosen, "-o", "name").split()
    for place in found:
        kind, _, name = place.partition("/")
        if (kind.partition(".")[0], name) not in kept and not name.endswith("-training"):
            say(ask(words, "delete", place, seconds=120).strip())


def _last(error: BaseException) -> str:
    """What kubectl said, without how it was called."""
    return str(error).partition(" ended with ")[2].partition(": ")[2] or str(error)
