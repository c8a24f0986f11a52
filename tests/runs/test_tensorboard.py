"""TensorBoard's own reader sees every scalar once, also where a resumed run wrote a step again."""

import io

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from arsenal.config import compose
from arsenal.runs.tensorboard import Board, tensorboard


def test_a_resumed_run_replaces_what_it_repeats(tmp_path):
    for begin, stop, offset in ((0, 5, 0.0), (3, 7, 100.0)):  # killed after step 5, resumed from the checkpoint at step 3
        board = Board(tmp_path, begin)
        for step in range(begin + 1, stop + 1):
            board.scalars(step, {"train/loss": step + offset, "validation/loss": [1.0, 2.0]})
        board.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert reader.Tags()["scalars"] == ["train/loss", "validation/loss/0", "validation/loss/1"]
    seen = [(event.step, event.value) for event in reader.Scalars("train/loss")]
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 104), (5, 105), (6, 106), (7, 107)]


def test_pictures_texts_hyperparameters_and_the_graph_are_read_back(tmp_path):
    config = compose("digits_mlp").values
    tracker = tensorboard(tmp_path, 0, config)
    tracker.note("start", 0, {"length": 5})
    tracker.note("images", 5, {"sample": np.arange(2 * 8 * 8).reshape(2, 8, 8)})
    tracker.note("text", 5, {"generate": "to be, or"})
    tracker.close()
    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    (picture,) = reader.Images("sample")
    assert picture.step == 5 and Image.open(io.BytesIO(picture.encoded_image_string)).size == (2 * 68, 68)
    (text,) = reader.Tensors("generate/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "```\nto be, or\n```"
    assert b"arsenal.optim.adamw" in reader.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    content = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    chosen = HParamsPluginData.FromString(content).session_start_info.hparams
    assert chosen["learner.optimizer.learning_rate"].number_value == 1e-3
    assert chosen["learner.model._target_"].string_value == "arsenal.models.perceptron"
    nodes = {node.name: node for node in GraphDef.FromString(reader.Graph().SerializeToString()).node}
    assert nodes["learner"].op == "arsenal.training.supervised"
    assert set(nodes["learner"].input) == {"learner/model", "learner/loss", "learner/optimizer"}
