"""`arsenal ab TABLE unit=... variant=... outcome=...`: one experiment on people, from a table of events to a page."""


def ab(
    table: str, /, unit: str, variant: str, outcome: str, covariate: str | None = None, slice: str | None = None,
    control: str | None = None, per_unit: str | None = None, shares: str | None = None, confidence: str = "0.95",
    mixed: str = "error", to: str = "ab.html",
) -> None:  # fmt: skip
    """Read an experiment's table, a row for an event or a unit, and write a page that says whether treated units differ.

    TABLE: a CSV or Parquet file, or a pattern. unit: the column of who was treated. variant: the column of the arms. outcome:
    a column of numbers, or A/B for the ratio of two columns' sums. covariate: a number of before the experiment, for CUPED.
    slice: a column of groups in which the effect is looked at too. control: the arm that others are compared with; unless
    given the one called control, else the first by name. per_unit: how a unit's rows become one number, any, sum or mean; any
    where all are 0 or 1, sum otherwise. shares: planned sizes of the arms, A:1,B:1; equal unless given. mixed: units in
    several arms are an error, or drop. to: the page.
    """  # fmt: skip
    from pathlib import Path

    from arsenal.evaluation.ab.page import ExperimentSettings, analyse, headline, write_page
    from arsenal.evaluation.report import number

    asked = ExperimentSettings(unit, variant, outcome, covariate, slice, control, per_unit, shares, confidence, mixed)
    found = analyse(table, asked)
    for arm in found.arms[1:]:
        effect = headline(arm)
        ends = f"{number(effect.low)} to {number(effect.high)}"
        print(f"{arm.name} - {found.arms[0].name}  {number(effect.effect)} ({ends}), p {number(arm.adjusted)}")
    if found.mismatched:
        print(f"sample-ratio mismatch: p {number(found.mismatch.p_value)}; do not believe the effects before you know why.")
    write_page(Path(to), found)
    print(f"page: {to}")
