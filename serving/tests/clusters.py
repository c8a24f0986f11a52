"""Deployments that the tests of clusters are run on: every environment's profile, and what else a profile may say."""

from pathlib import Path

import yaml

from arsenal_serving.deploy import knative, kserve, kubernetes
from arsenal_serving.deploy.description import ENVIRONMENTS, describe

CONF = Path(__file__).parents[2] / "conf" / "deployment"
SECRET = "planted-4f1c2b7e9d"
MODEL = {"name": "penguins", "version": 1, "digest": "sha256:" + "5f" * 32}
IMAGE = {"registry": "registry.example.com/ml", "tag": "0.3.0-cpu"}
SAME = {"name": "penguins", "owner": "science", "model": MODEL, "image": IMAGE}
HOST = {"host": "penguins.example.com", "tls_secret": "penguins-tls", "keys_secret": "arsenal-keys"}
WORK = {"image": "registry.example.com/ml/arsenal:0.3.0", "claim": "runs"}
TRAINING = WORK | {"words": ["+experiment=digits_mlp", "run.root=/data/runs"], "hosts": 4, "cpu": 7.5}

VARIANTS: dict[str, dict] = {env: {"env": env} for env in ENVIRONMENTS}
VARIANTS |= {
    "fetched": {
        "env": "staging",
        "model": MODEL | {"source": "fetched", "url": "https://models.example.com:8443/penguins/1"},
    },
    "server canary": {
        "env": "staging",
        "model": MODEL | {"source": "mounted"},
        "canary": {"version": 2, "weight": 0.1},
        "extra": {"kubernetes": {"claim": "models", "state_claim": "state"}},
    },
    "gateway canary": {
        "env": "production",
        "access": HOST | {"namespaces": ["shop"]},
        "canary": {"version": 2, "weight": 0.1, "by": "traffic"},
        "extra": {
            "kubernetes": {
                "entry": "gateway", "entry_namespace": "gateways", "gateway": "gateways/public",
                "canary_image": "registry.example.com/ml/arsenal-serve:2",
            }
        },
    },
    "nginx canary": {
        "env": "production",
        "access": HOST,
        "server": {"grpc_port": 9000, "sample": 0.01},
        "model": MODEL | {"source": "mounted"},
        "canary": {"version": 2, "weight": 0.1, "by": "traffic"},
        "extra": {"kubernetes": {"claim": "models"}},
    },
    "keda": {
        "env": "production",
        "extra": {
            "kubernetes": {
                "autoscaler": "keda", "monitoring": "pods", "metrics_secret": "arsenal-metrics", "priority_class": "serving",
                "node_selector": {"kubernetes.io/arch": "amd64"},
                "rules": {"groups": [{"name": "penguins", "rules": [{"alert": "None", "expr": "vector(1)"}]}]},
            }
        },
    },
    "cuda": {
        "env": "staging",
        "image": IMAGE | {"accelerator": "cuda", "digest": "sha256:" + "7a" * 32, "pull_secret": "registry"},
        "resources": {"cpu": 3.5, "memory": 16384, "accelerators": 1},
    },
    "jobs": {
        "env": "staging",
        "extra": {
            "kubernetes": {
                "training": TRAINING,
                "prediction": WORK | {"words": ["run=/data/runs/best", "input=/data/in.csv", "output=/data/out.csv"]},
                "retraining": WORK | {"words": ["experiment=digits_mlp", "data=/data/in.csv", "model=penguins"],
                                      "schedule": "0 3 * * *", "seconds": 7200},
            }
        },
    },
    "jobset": {"env": "staging", "extra": {"kubernetes": {"training": TRAINING | {"kind": "jobset", "accelerators": 8}}}},
    "ray": {"env": "staging", "extra": {"kubernetes": {"training": TRAINING | {"kind": "ray"}}}},
}  # fmt: skip


def deployment(name, variants=VARIANTS):
    """A variant's deployment, on its environment's profile."""
    variant = variants[name]
    profile = yaml.safe_load((CONF / f"{variant['env']}.yaml").read_text())
    for key, value in (SAME | variant).items():
        profile[key] = profile.get(key, {}) | value if isinstance(value, dict) else value
    return describe(profile)


def objects(made):
    """The objects as a reader of the files has them."""
    documents = [yaml.safe_load(text) for text in kubernetes.files(made).values()]
    return [document for document in documents if "kind" in document]


def pods(made):
    """Where a pod is described, and its spec, of every kind that has one."""
    for document in objects(made):
        found, todo = [], [document]
        while todo:
            part = todo.pop()
            if isinstance(part, dict) and "containers" in part:
                found.append(part)
            todo += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        for spec in found:
            yield f"{document['kind']} {document['metadata']['name']}", spec


KSERVE = {
    "development": {"env": "development"},
    "staging": {"env": "staging"},
    "production": {"env": "production"},
    "mounted": {"env": "staging", "model": MODEL | {"source": "mounted"}, "extra": {"kserve": {"claim": "models"}}},
}
KNATIVE = {
    "development": {"env": "development", "scale": {"least": 0}},
    "staging": {"env": "staging"},
    "production": {"env": "production", "access": HOST},
    "canary": {
        "env": "staging", "canary": {"version": 2, "weight": 0.1, "by": "traffic"},
        "extra": {"knative": {"canary_image": "registry.example.com/ml/arsenal-serve:2"}},
    },
}  # fmt: skip


def every_object():
    """Of all variants, and of KServe's and Knative's."""
    made = [one for name in VARIANTS for one in objects(deployment(name))]
    made += [one for name in KSERVE for one in kserve.manifests(deployment(name, KSERVE)).values()]
    return made + [one for name in KNATIVE for one in knative.manifests(deployment(name, KNATIVE)).values()]
