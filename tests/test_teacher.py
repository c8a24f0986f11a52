"""A student learns from the run that it names, on what that run sees; a teacher that does not fit is told, and none is exported."""

import jax
import numpy as np
import pytest
from arsenal_serving.model import load as load_artifact

from arsenal.config import ConfigError
from arsenal.models.aside import ASIDE
from arsenal.road import compose, export, fit

TEACH = ["length=60", "batch_size=256", "model.hidden=[8]", "~expect"]
LEARN = [
    "length=120", "batch_size=256", "model.model.hidden=[8]", "~expect", "loss.share=1.0", "learner.augmentation=null", "split.validation=0.15",
    "optimizer.learning_rate=0.03",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return f"run.root={tmp_path_factory.mktemp('runs')}"


@pytest.fixture(scope="module")
def teacher(root):
    return fit(compose("digits_mlp", [*TEACH, root]))


@pytest.fixture(scope="module")
def learned(root, teacher):
    return fit(compose("digits_student", [*LEARN, f"teacher={teacher.folder}", root]))


def test_it_learns_what_the_teacher_says(teacher, learned):
    assert learned.config.values["model"]["teacher"] == teacher.config.values["model"]
    own = learned.params["learner"]
    assert jax.tree.all(jax.tree.map(np.array_equal, own[ASIDE]["teacher"], teacher.params["learner"]))
    first, last = (next(e["values"] for e in events if e["kind"] == "train") for events in (learned.history, learned.history[::-1]))
    rows = learned.experiment.splits["test"]
    said = [np.asarray(run.apply["predict"](run.params, rows.x)) for run in (teacher, learned)]
    assert learned.metrics["test/agreement"] == pytest.approx((said[0] == said[1]).mean(), abs=1e-6)
    assert learned.metrics["test/agreement"] > 0.8 and {"loss", "agreement"} <= first.keys() & last.keys()


def test_no_teacher_is_exported(learned):
    served = load_artifact(export(learned))
    x = np.asarray(learned.experiment.splits["test"].x[:5])
    wanted = learned.apply["predict_proba"](learned.params, x)
    np.testing.assert_allclose(served.infer("predict_proba", {"x": x})["predict_proba"], wanted, atol=1e-6)
    kept = sum(file.stat().st_size for file in (learned.folder / "artifact").rglob("parameters.safetensors"))
    assert kept < 4 * (64 * 8 + 8 + 8 * 10 + 10) + 2000, "The student's numbers alone."


@pytest.mark.parametrize(("words", "said"), [
    (["features.scale.factor=0.1"], "`features` must be those of the teacher"),
    (["teacher=nowhere"], "`teacher` must be a run folder, or hf:FOLDER; nowhere has no config.yaml"),
    (["teacher=null"], "`student` needs a teacher"),
    (["model=perceptron", "~model.model", "model.output=10"], "`teacher` is of the model arsenal.models.student"),
])  # fmt: skip
def test_what_does_not_fit_is_told(root, teacher, words, said):
    with pytest.raises(ConfigError, match=said):
        fit(compose("digits_student", [*LEARN, f"teacher={teacher.folder}", root, *words]))


def test_a_random_teacher_is_none(root):
    with pytest.raises(ConfigError, match="A `student` needs `teacher`"):
        fit(compose("digits_student", [*LEARN, "teacher=null", "model.teacher={_target_: arsenal.models.perceptron, output: 10}", root]))


def test_a_sweep_and_a_study_take_none(root, teacher):
    with pytest.raises(ConfigError, match="`teacher` is for one run: `arsenal train` takes it"):
        compose("digits_student", [*LEARN, f"teacher={teacher.folder}", root], name="tune")
