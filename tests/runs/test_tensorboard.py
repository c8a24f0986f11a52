"""TensorBoard's own reader sees every scalar once, also where a resumed run wrote a step again."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from arsenal.runs.tensorboard import Board


def test_a_resumed_run_replaces_what_it_repeats(tmp_path):
    for begin, stop, offset in ((0, 5, 0.0), (3, 7, 100.0)):  # killed after step 5, resumed from the checkpoint at step 3
        board = Board(tmp_path, begin)
        for step in range(begin + 1, stop + 1):
            board.write(step, {"train/loss": step + offset, "validation/loss": [1.0, 2.0]})
        board.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert reader.Tags()["scalars"] == ["train/loss", "validation/loss/0", "validation/loss/1"]
    seen = [(event.step, event.value) for event in reader.Scalars("train/loss")]
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 104), (5, 105), (6, 106), (7, 107)]
