"""TensorBoard's files, written without TensorFlow: scalars, images, texts, hyperparameters and the config as a graph."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arsenal.runs.journal import MEASURES, Tracker
from arsenal.runs.pictures import strip

PATIENCE = 1.0
"""Seconds that values may wait to be written: a hand-over to the writer's thread for each log costs a fast run dear."""


def tensorboard(folder: Path, step: int, config: dict[str, Any]) -> Tracker:
    """A new file in `folder/tensorboard`; what older files say beyond `step` no longer counts."""
    board = Board(folder / "tensorboard", step)

    def note(kind: str, step: int, values: dict[str, Any]) -> None:
        if kind == "start":
            board.describe(step, config)
        elif kind in MEASURES:
            board.scalars(step, {f"{kind}/{name}": value for name, value in values.items()})
        elif kind == "images":
            board.images(step, values)
        elif kind == "text":
            board.text(step, values)

    return Tracker(note, board.close)


class Board:
    """An open event file. What is written waits a moment; `close` writes it out."""

    def __init__(self, folder: Path, step: int):
        """Open a new file in the folder; what older files say beyond `step` no longer counts."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.event, self.summary = Event, Summary
        # Readers take files in the order of their names, which hold seconds: no two may begin in one.
        begun = max((int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")), default=0)
        time.sleep(max(0.0, min(1.0, begun + 1 - time.time())))
        self.writer = EventFileWriter(str(folder))
        session = SessionLog(status=SessionLog.START)
        self.waiting, self.sent = [Event(wall_time=time.time(), step=step + 1, session_log=session)], time.monotonic()

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        """One scalar for each number; a list (a population) gives one for each member."""
        flat = {}
        for tag, value in values.items():
            flat |= {f"{tag}/{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {tag: value}
        self.write(step, [self.summary.Value(tag=tag, simple_value=v) for tag, v in flat.items()])

    def images(self, step: int, values: dict[str, Any]) -> None:
        """One strip for each name."""
        for name, images in values.items():
            picture = self.summary.Image(height=0, width=0, colorspace=0, encoded_image_string=strip(images))
            self.write(step, [self.summary.Value(tag=name, image=picture)])

    def text(self, step: int, values: dict[str, str]) -> None:
        """One text for each name, shown letter by letter."""
        self.write(step, [self.tensor(name, "text", f"```\n{text}\n```") for name, text in values.items()])

    def describe(self, step: int, config: dict[str, Any]) -> None:
        """The config as a text, as hyperparameters and as a graph of factories."""
        import yaml
        from tensorboard.compat.proto.attr_value_pb2 import AttrValue
        from tensorboard.compat.proto.graph_pb2 import GraphDef
        from tensorboard.compat.proto.node_def_pb2 import NodeDef
        from tensorboard.compat.proto.versions_pb2 import VersionDef
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.api_pb2 import Experiment, HParamInfo
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

        self.text(step, {"config": yaml.safe_dump(config, sort_keys=False)})
        chosen = {path: value for path, value in leaves(config) if isinstance(value, bool | int | float | str)}
        session = SessionStartInfo()
        for path, value in chosen.items():
            field = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else "number_value"
            setattr(session.hparams[path], field, value)
        experiment = Experiment(hparam_infos=[HParamInfo(name=path) for path in chosen])
        for tag, data in ((metadata.EXPERIMENT_TAG, {"experiment": experiment}),
                          (metadata.SESSION_START_INFO_TAG, {"session_start_info": session})):  # fmt: skip
            content = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **data).SerializeToString()
            value = self.summary.Value(tag=tag, tensor=metadata.NULL_TENSOR)
            value.metadata.plugin_data.plugin_name, value.metadata.plugin_data.content = metadata.PLUGIN_NAME, content
            self.write(step, [value])
        nodes = [
            NodeDef(name=name, op=op, input=parts, attr={k: AttrValue(s=str(v).encode()) for k, v in given.items()})
            for name, op, parts, given in list_factories(config)
        ]
        graph = GraphDef(node=nodes, versions=VersionDef(producer=22))
        self.waiting.append(self.event(wall_time=time.time(), graph_def=graph.SerializeToString()))

    def tensor(self, tag: str, plugin: str, text: str) -> Any:
        """A string for one of TensorBoard's plugins."""
        value = self.summary.Value(tag=f"{tag}/text_summary")
        value.metadata.plugin_data.plugin_name = plugin
        value.tensor.dtype = 7  # DT_STRING
        value.tensor.tensor_shape.dim.add(size=1)
        value.tensor.string_val.append(text.encode())
        return value

    def write(self, step: int, values: list[Any]) -> None:
        """Values of one step."""
        self.waiting.append(self.event(wall_time=time.time(), step=step, summary=self.summary(value=values)))
        if time.monotonic() - self.sent > PATIENCE:
            self.send()

    def send(self) -> None:
        """Hand what waits to the writer."""
        for event in self.waiting:
            self.writer.add_event(event)
        self.waiting, self.sent = [], time.monotonic()

    def close(self) -> None:
        """Write out and close."""
        self.send()
        self.writer.close()


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested dicts, with its path."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def list_factories(node: Any, path: str = "") -> Iterator[tuple[str, str, list[str], dict[str, Any]]]:
    """Every `_target_` at or below a node: its path, what it names, the paths of the parts it is given, the rest."""
    if isinstance(node, dict):
        below = [found for key, value in node.items() for found in list_factories(value, f"{path}/{key}" if path else str(key))]
        if "_target_" in node:
            depth = path.count("/") + 1
            parts = [name for name, *_ in below if name.count("/") == depth]
            yield path, node["_target_"], parts, {k: v for k, v in node.items() if k != "_target_" and "_target_" not in str(v)}
        yield from below
