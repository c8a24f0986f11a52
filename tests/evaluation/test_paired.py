"""Two models on the same rows: the numbers of each, their difference as the binomial formula has it, and who is better."""

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from arsenal import metrics
from arsenal.evaluation.comparison import ComparedRun, paired_lines, write_comparison
from arsenal.evaluation.paired import answer_tests, compare_answers, correct_pairs, verdict
from arsenal.evaluation.significance import delong, mcnemar
from arsenal.records import Batch

DRAW = np.random.default_rng(4)
N = 800
Y = DRAW.integers(0, 2, N).astype(np.int32)


def outputs(noise):
    p = 1 / (1 + np.exp(-(2 * Y - 1 + noise * DRAW.normal(size=N))))
    p = np.stack([1 - p, p], 1).astype(np.float32)
    return {"predict": p.argmax(1).astype(np.int32), "predict_proba": p}


ONE, OTHER = outputs(1.0), outputs(2.5)
ROWS = Batch(np.zeros((N, 1), np.float32), Y, np.ones(N, np.float32), np.arange(N, dtype=np.int32))
MEASURED = {"accuracy": metrics.accuracy(), "log_loss": metrics.log_loss(), "area": metrics.roc_auc(),
            "sets": metrics.r2_score()}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return compare_answers(jax.random.key(0), "test", ROWS, ONE, OTHER, MEASURED)


def test_differences_are_of_the_same_rows(found):
    by_name = {one.metric: one for one in found.differences}
    for name, peer in (("accuracy", lambda said: accuracy_score(Y, said["predict"])),
                       ("log_loss", lambda said: log_loss(Y, said["predict_proba"])),
                       ("roc_auc", lambda said: roc_auc_score(Y, said["predict_proba"][:, 1]))):  # fmt: skip
        one = by_name[name]
        np.testing.assert_allclose([one.one, one.other], [peer(ONE), peer(OTHER)], rtol=1e-5)
        assert one.found.effect == pytest.approx(one.one - one.other) and one.found.low < one.found.effect < one.found.high
    right = [said["predict"] == Y for said in (ONE, OTHER)]
    apart = right[0].astype(float) - right[1]
    reach = stats.norm.ppf(0.975) * apart.std() / np.sqrt(N)
    ends = by_name["accuracy"].found.low, by_name["accuracy"].found.high
    np.testing.assert_allclose(ends, (apart.mean() - reach, apart.mean() + reach), atol=0.004)
    assert found.tests == {"McNemar": mcnemar(*right), "DeLong": delong(Y, ONE["predict_proba"][:, 1], OTHER["predict_proba"][:, 1])}
    assert found.rows == N


def test_the_better_of_two_is_named_where_the_interval_says_so(found, tmp_path):
    lines = {line[0]: line for line in paired_lines(("A", "B"), found)}
    assert lines["log loss"][-1] == "A is better" == lines["accuracy"][-1] and lines["log loss"][3].startswith("-")
    alike = compare_answers(jax.random.key(0), "test", ROWS, ONE, ONE, {"accuracy": metrics.accuracy()})
    assert {line[-1] for line in paired_lines(("A", "B"), alike)} == {"not told apart"}
    runs = [ComparedRun(f"runs/{i}", "complete", {}, {}, []) for i in range(3)]
    write_comparison(tmp_path / "page.html", runs, [(("A", "B"), found), (("A", "C"), "they have 3 and 4 test rows")])
    page = (tmp_path / "page.html").read_text()
    assert "A less B <small>the same 800 test rows" in page and "Not compared row by row: they have 3 and 4 test rows" in page


def test_tests_are_those_that_apply():
    assert answer_tests(Y.astype(np.float32), ONE, OTHER) == {}
    three = np.where(np.arange(N) < 10, 2, Y).astype(np.int32)
    assert answer_tests(three, ONE, OTHER).keys() == {"McNemar"}
    assert answer_tests(Y, ONE, OTHER, split=np.arange(N)).keys() == {"McNemar"}, "No area in a split of one row."
    none = np.where(np.arange(N) % 2, 1.0, 0.0)
    half = {name: value[none > 0] for name, value in ONE.items()}, {name: value[none > 0] for name, value in OTHER.items()}
    broken = {name: np.where(none.reshape(-1, *[1] * (value.ndim - 1)) > 0, value, 0) for name, value in ONE.items()}
    assert answer_tests(Y, broken, OTHER, weight=none) == answer_tests(Y[none > 0], *half)


def test_p_values_of_several_pairs_are_corrected_by_holm_each_test_by_itself(found):
    three = [found._replace(tests={"McNemar": found.tests["McNemar"]._replace(p_value=p)}, differences=[
        one._replace(found=one.found._replace(p_value=q)) for one in found.differences[:1]
    ]) for p, q in ((0.01, 0.5), (0.04, 0.03), (0.03, 0.02))]  # fmt: skip
    made = correct_pairs(three)
    np.testing.assert_allclose([one.tests["McNemar"].p_value for one in made], [0.03, 0.06, 0.06])
    np.testing.assert_allclose([one.differences[0].found.p_value for one in made], [0.5, 0.06, 0.06])
    assert correct_pairs([found])[0] == found and correct_pairs([]) == []
    apart = found.tests["McNemar"]._replace(low=0.1, high=0.2, p_value=0.06)
    assert verdict(apart, "max", ("A", "B")) == "not told apart" and verdict(apart._replace(p_value=0.01), "max", ("A", "B")) == "A is better"
