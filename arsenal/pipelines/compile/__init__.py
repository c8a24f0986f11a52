"""Flows as files of other schedulers, which do not import arsenal: each step there runs `arsenal step`."""

import os
from collections.abc import Callable
from pathlib import Path

from arsenal.pipelines.compile.airflow import airflow
from arsenal.pipelines.compile.argo import argo
from arsenal.pipelines.compile.kfp import kfp
from arsenal.pipelines.compile.prefect import prefect
from arsenal.pipelines.compile.target import CompiledFlow, python_path
from arsenal.pipelines.compile.timers import cron, systemd
from arsenal.pipelines.flow import Flow, find_flow
from arsenal.pipelines.references import FlowError

__all__ = ["TARGETS", "compile_flow"]

TEXTS: dict[str, Callable[[CompiledFlow], str]] = {"airflow": airflow, "prefect": prefect, "kfp": kfp, "argo": argo, "cron": cron}
TARGETS = (*TEXTS, "systemd")
IMAGES = ("kfp", "argo")


def compile_flow(
    flow: Flow, target: str, to: Path, root: str = "flows", folder: str | None = None, image: str | None = None,
    volume: str | None = None,
) -> list[Path]:  # fmt: skip
    """Write a flow as the file of another scheduler, of systemd as two in the folder `to`; the paths of what was written.

    root: the folder of flows there, from the working folder `folder`, this one unless given. image, volume: of kfp and argo, a
    container image that has arsenal, and a claim of a volume that holds the folder.
    """
    if target not in IMAGES and (image or volume):
        raise FlowError(f"`{'image' if image else 'volume'}` is for {' and '.join(IMAGES)}; got target={target}.")
    if ":" in flow.source and target in IMAGES and os.path.isabs(flow.source):
        raise FlowError(f"The flow must be named as it is found in the working folder there; got {flow.source}.")
    given = CompiledFlow(flow, root, folder or os.getcwd(), image, volume)
    if target == "systemd":
        texts = {to / name: text for name, text in systemd(given).items()}
    else:
        if target in ("airflow", "prefect", "kfp"):
            python_path(to)
        texts = {to: TEXTS[target](given)}
    own = [one for one in (Path(flow.source.partition(":")[0]), find_flow(flow.source)) if one.is_file()]
    for path, text in texts.items():
        if path.exists() and any(one.samefile(path) for one in own):
            raise FlowError(f"`to` {path} is the flow itself, which would be lost; choose another name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts)
