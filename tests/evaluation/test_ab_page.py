"""From a table of events to a page: units are counted once, effects are those of the tests, and what is wrong is one line."""

import sys

import numpy as np
import pandas as pd
import pytest
from page import Page

from arsenal import cli
from arsenal.evaluation import ab
from arsenal.evaluation.ab.page import ExperimentError, ExperimentSettings, analyse, analyse_frame, write_page

RNG = np.random.default_rng(0)
N = 600
ARM = RNG.permutation(np.arange(N) % 2)
COUNTRY = np.array(["de", "fr", "<b>"])[RNG.integers(0, 3, N)]
BEFORE = RNG.gamma(2.0, size=N).round(3)
SPENT = (BEFORE + 0.5 * ARM + RNG.gamma(1.0, size=N)).round(3)
BOUGHT = (SPENT > 3).astype(int)
ASKED = ExperimentSettings("user", "group", "bought")


def events(rows_of_a_unit=2):
    """The table with so many rows for every unit, in another order."""
    at = RNG.permutation(np.tile(np.arange(N), rows_of_a_unit))
    first = np.zeros(len(at), bool)
    first[np.unique(at, return_index=True)[1]] = True
    columns = {
        "user": [f"u{i}" for i in at], "group": np.array(["A", "B"])[ARM[at]], "country": COUNTRY[at], "before": BEFORE[at],
        "bought": np.where(first, BOUGHT[at], 0), "spent": np.where(first, SPENT[at], 0.0), "visits": 1,
    }  # fmt: skip
    return pd.DataFrame(columns).astype(str)


FRAME = events()
ORDER = [int(user[1:]) for user in dict.fromkeys(FRAME["user"])]
KNOWN = ARM[ORDER], BOUGHT[ORDER], SPENT[ORDER], BEFORE[ORDER], COUNTRY[ORDER]


def test_a_unit_converts_once():
    arm, bought, *_ = KNOWN
    found = analyse_frame(FRAME, ASKED)
    assert found.kind == "share" and [one.name for one in found.arms] == ["A", "B"] and found.rows == 2 * N
    assert found.arms[1].effect == ab.z_test(bought, arm)
    assert found.arms[0].value == bought[arm == 0].mean() and found.arms[1].units == N // 2
    assert found.notes == ["A unit's `bought` is 1 if any of its rows is: 1,200 rows of 600 units."]
    lift, low, high = found.arms[1].lift
    assert lift == pytest.approx(bought[arm == 1].mean() / bought[arm == 0].mean() - 1) and low < lift < high
    swapped = analyse_frame(FRAME, ASKED._replace(control="B"))
    assert swapped.arms[1].effect.effect == -found.arms[1].effect.effect


def test_a_variant_called_control_is_the_control():
    named = FRAME.assign(group=FRAME["group"].map({"A": "blue", "B": "Control"}))
    found, before = analyse_frame(named, ASKED), analyse_frame(FRAME, ASKED._replace(control="B"))
    assert [one.name for one in found.arms] == ["Control", "blue"] and found.arms[1].effect == before.arms[1].effect
    assert analyse_frame(named, ASKED._replace(control="blue")).arms[0].name == "blue"


def test_means_covariates_and_slices_are_those_of_the_tests():
    arm, _, spent, before, country = KNOWN
    found = analyse_frame(FRAME, ExperimentSettings("user", "group", "spent", "before", "country")).arms[1]
    assert found.effect[:5] == pytest.approx(ab.t_test(spent, arm)[:5])
    assert found.sharp[:5] == pytest.approx(ab.cuped_test(spent, arm, before)[:5])
    assert found.sharp.high - found.sharp.low < 0.9 * (found.effect.high - found.effect.low)
    wanted = ab.effects_by_slice(spent, arm, country)
    assert found.slices.names == ["<b>", "de", "fr"] and found.slices.interaction[:2] == pytest.approx(wanted.interaction[:2])
    half = analyse_frame(FRAME, ExperimentSettings("user", "group", "spent", per_unit="mean")).arms[1]
    assert half.effect.effect == pytest.approx(found.effect.effect / 2)


def test_ratios_are_of_sums():
    arm, _, spent, *_ = KNOWN
    found = analyse_frame(FRAME, ExperimentSettings("user", "group", "spent/visits", slice="country"))
    assert found.kind == "ratio" and found.arms[1].effect[:5] == pytest.approx(ab.ratio_test(spent, np.full(N, 2.0), arm)[:5])
    assert len(found.arms[1].slices.effects) == 3


def test_units_without_a_covariate_have_the_mean_and_are_told():
    frame = FRAME.assign(before=np.where(FRAME["user"] == "u7", "", FRAME["before"]))
    found = analyse_frame(frame, ExperimentSettings("user", "group", "spent", "before"))
    assert "1 units without `before` have the mean of the others." in found.notes and found.arms[1].sharp is not None


def test_arms_of_the_wrong_sizes_are_suspect(tmp_path):
    few = FRAME[(FRAME["group"] == "A") | FRAME["user"].str.endswith(("1", "2", "3", "4", "5", "6"))]
    found = analyse_frame(few, ASKED)
    assert found.mismatched and not analyse_frame(FRAME, ASKED).mismatched
    write_page(tmp_path / "ab.html", found)
    assert "do not have the sizes that were planned" in Page(tmp_path / "ab.html").text
    assert not analyse_frame(few, ASKED._replace(shares=f"A:{found.arms[0].units},B:{found.arms[1].units}")).mismatched


def test_three_variants_are_compared_with_one_and_corrected():
    third = FRAME.assign(group=np.where(FRAME["user"].str[-1].isin(list("369")), "C", FRAME["group"]))
    found = analyse_frame(third, ASKED)
    assert [one.name for one in found.arms] == ["A", "B", "C"]
    p = [one.effect.p_value for one in found.arms[1:]]
    assert [one.adjusted for one in found.arms[1:]] == pytest.approx(ab.adjust_p_values(p).tolist())


def test_the_page_is_whole_and_loads_nothing(tmp_path):
    found = analyse_frame(FRAME, ExperimentSettings("user", "group", "spent", "before", "country"))
    write_page(tmp_path / "ab.html", found)
    page = Page(tmp_path / "ab.html")
    assert page.open == [] and "script" not in page.tags and "b" not in page.tags
    assert all(a.startswith(("data:", "#")) for a in page.addresses) and page.tags.count("img") == 1
    for words in ("spent by group", "there is a difference", "CUPED", "Slices by country", "units 600", "95 % intervals", "<b>"):
        assert words in page.text, words
    write_page(tmp_path / "again.html", found)
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "ab.html").read_bytes()


BAD = [
    (FRAME, ASKED._replace(outcome="bougth"), "bought"),
    (FRAME, ASKED._replace(outcome="country"), "Column `country` must hold numbers, or true and false; got"),
    (FRAME.assign(bought=["", *FRAME["bought"][1:]]), ASKED, "Column `bought` has no value in row 1."),
    (FRAME.assign(group="A"), ASKED, "Column `group` must hold two variants or more; got A."),
    (FRAME.assign(group=FRAME["user"]), ASKED, "holds 600 variants, more than 20; is it the unit?"),
    (FRAME.assign(group=np.where(np.arange(2 * N) == 0, "C", FRAME["group"])), ASKED, "There is 1 unit in several variants, the first"),
    (FRAME, ASKED._replace(control="Z"), "`control` must be one of A, B; got Z."),
    (FRAME, ASKED._replace(per_unit="max"), "`per_unit` must be any, sum or mean; got max."),
    (FRAME, ASKED._replace(outcome="spent", per_unit="any"), "`per_unit` any is of a column of 0 and 1; `spent` holds other numbers."),
    (FRAME, ASKED._replace(shares="A:1"), "`shares` must give every variant a number > 0, as A:1,B:1 does; got A:1."),
    (FRAME, ASKED._replace(confidence="95"), "`confidence` must be in (0, 1); got 95."),
    (FRAME, ASKED._replace(slice="user"), "Column `user` must hold 100 slices or fewer; got 600."),
    (FRAME, ASKED._replace(slice="bought"), "Column `bought` must have one value for a unit;"),
    (FRAME, ASKED._replace(outcome="spent/visits", covariate="before"), "a ratio of sums, which takes no `covariate`"),
]  # fmt: skip


@pytest.mark.parametrize(("frame", "asked", "line"), BAD, ids=[line[:30] for *_, line in BAD])
def test_what_cannot_be_is_a_line(frame, asked, line):
    with pytest.raises((ExperimentError, ValueError)) as said:
        analyse_frame(frame, asked)
    assert line in str(said.value) and "\n" not in str(said.value)


def test_units_in_several_variants_are_dropped_where_it_is_asked_for():
    frame = FRAME.assign(group=np.where(np.arange(2 * N) == 0, "C", FRAME["group"]))
    found = analyse_frame(frame, ASKED._replace(mixed="drop"))
    assert sum(one.units for one in found.arms) == N - 1 and found.notes[0] == "Left out: 1 unit in several variants."


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    FRAME.to_csv("events.csv", index=False)
    FRAME.to_parquet("events.parquet")
    words = ["arsenal", "ab", "events.csv", "unit=user", "variant=group", "outcome=spent", "covariate=before", "slice=country", "to=page.html"]
    monkeypatch.setattr(sys, "argv", words)
    cli.arsenal()
    said = capsys.readouterr().out
    assert said.startswith("B - A  0.") and said.endswith("page: page.html\n")
    assert Page(tmp_path / "page.html").open == []
    asked = ExperimentSettings("user", "group", "spent")
    assert analyse("events.parquet", asked).arms == analyse("events.csv", asked).arms
    monkeypatch.setattr(sys, "argv", [*words[:5], "outcome=spend"])
    with pytest.raises(SystemExit) as ended:
        cli.arsenal()
    line = capsys.readouterr().err
    assert ended.value.code == 1 and line.count("\n") == 1 and "spent" in line
