"""What a command asks of a run that is complete is done, or said not to apply."""

import json

import pytest

from arsenal import fit, load

TOP = "+metrics.top_3={_target_: arsenal.metrics.top_k_accuracy, k: 3}"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def again(root, *words):
    """What the same command says, with more words, and the run."""
    heard = []
    run = fit(
        "digits_mlp", ["length=20", "model.hidden=[8]", "run.tensorboard=false", f"run.root={root}", *words],
        listener=lambda kind, step, values: heard.append((kind, step, values)),
    )  # fmt: skip
    return heard, run


def test_what_is_asked_of_a_complete_run(root):
    heard, run = again(root)
    before = (run.folder / "events.jsonl").read_text()
    assert heard[-1][:2] == ("complete", 20)

    heard, _ = again(root)
    assert [kind for kind, *_ in heard] == ["complete"] and (run.folder / "events.jsonl").read_text() == before

    heard, _ = again(root, "run.profile.start=5", "every.log=7 steps")
    assert [kind for kind, *_ in heard] == ["warning", "complete"]
    assert heard[0][2]["text"].startswith("`every.log`, `run.profile.start`: none of the steps is left that this would change")

    heard, _ = again(root, "length=10")
    assert "at step 20 already, beyond length=10: what was trained stays" in heard[0][2]["text"] and heard[-1][:2] == ("complete", 20)

    heard, _ = again(root, "run.progress=false")
    assert [kind for kind, *_ in heard] == ["complete"]


def test_words_that_come_later_are_kept_and_nothing_is_measured(root):
    heard, run = again(root, "tags=[paper]")
    assert [kind for kind, *_ in heard] == ["complete"]
    assert load(run.folder).config.settings.tags == ["paper"]


@pytest.mark.slow
def test_a_metric_that_comes_later_is_measured_from_the_checkpoint(root):
    _, run = again(root)
    from arsenal import evaluate

    evaluate(run)
    heard, run = again(root, TOP, "every.log=3 steps")
    measured = next(values for kind, _, values in heard if kind == "validation")
    assert measured["top_3_accuracy"] > measured["accuracy"]
    assert load(run.folder).history[-1]["values"]["top_3_accuracy"] == measured["top_3_accuracy"]
    assert "test/top_3_accuracy" in json.loads((run.folder / "report" / "metrics.json").read_text())
    kept = load(run.folder).config
    assert "top_3" in kept.values["metrics"] and kept.values["every"]["log"] == "50 steps" and TOP in kept.overrides
    heard, _ = again(root, TOP)
    assert [kind for kind, *_ in heard] == ["complete"]  # it is part of the run now


@pytest.mark.slow
def test_a_damaged_checkpoint_is_no_complete_run(root):
    _, run = again(root)
    state = max((run.folder / "checkpoints").glob("*/state/**/*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(bytes(content))
    heard, run = again(root)
    assert "is damaged" in heard[0][2]["text"] and heard[-1][:2] == ("complete", 20) and run.step == 20
