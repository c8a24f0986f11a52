"""Parts of times against pandas and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from gaps import NAMES, SCHEMA, TIMED

from arsenal.features import date_parts
from arsenal.features.time import MISSING, PARTS, civil

rng = np.random.default_rng(3)
SECONDS = np.concatenate([rng.integers(-(2**31) + 1, 2**31, 3000), [0, -1, 86_399, 86_400, 2**31 - 1, -(2**31) + 1, 951_782_400]])
WHOLE = {"weekday": "day_of_week"}


def test_parts_are_pandas():
    got = jax.jit(date_parts(unit="s").apply)((), jnp.asarray(SECONDS, jnp.int32)[:, None])
    times = pd.DatetimeIndex(SECONDS.astype("datetime64[s]"))
    wanted = {part: getattr(times, WHOLE.get(part, part)) for part in PARTS[:7]}
    wanted |= {"is_weekend": times.day_of_week >= 5, "days": SECONDS / 86400}
    for i, part in enumerate(PARTS):
        np.testing.assert_allclose(got[:, i], np.asarray(wanted[part], float), rtol=1e-6, atol=1e-6, err_msg=part)


def test_the_calendar_is_numpys_for_every_day_of_ten_thousand_years():
    days = np.arange(np.datetime64("0001-01-01"), np.datetime64("9999-12-31") + 1)
    year, month, day, of_year, length = (np.asarray(part) for part in jax.jit(civil)(jnp.asarray(days.astype(np.int64), jnp.int32)))
    years, months = days.astype("datetime64[Y]"), days.astype("datetime64[M]")
    np.testing.assert_array_equal(year, years.astype(int) + 1970)
    np.testing.assert_array_equal(month, months.astype(int) % 12 + 1)
    np.testing.assert_array_equal(day, (days - months).astype(int) + 1)
    np.testing.assert_array_equal(of_year, (days - years).astype(int) + 1)
    np.testing.assert_array_equal(length, ((years + 1).astype("datetime64[D]") - years).astype(int))


def test_days_have_no_clock_and_the_missing_is_nan():
    made = date_parts(["hour", "day", "days"], indicator=True, schema=SCHEMA)
    got = np.asarray(made.apply((), TIMED.x))
    names = made.names(NAMES | {"time": ["seen", "born"], "numeric": []})["x"]
    assert names == ["seen.hour", "seen.day", "seen.days", "seen.missing", "born.day", "born.days", "born.missing"]
    missing = np.asarray(TIMED.x) == MISSING
    np.testing.assert_array_equal(np.isnan(got), np.repeat(missing, [4, 3], 1) & ~np.isin(np.arange(7), [3, 6]))
    np.testing.assert_array_equal(got[:, [3, 6]], missing)


def test_cycles_close():
    made = date_parts(["month", "hour", "day_of_year", "year"], cycles=True, unit="s")
    times = np.array(["1999-12-31T23:00", "2000-01-01T00:00", "2000-06-01T12:00"], "datetime64[s]").astype(np.int64)
    got = np.asarray(made.apply((), jnp.asarray(times, jnp.int32)[:, None]))
    assert got.shape == (3, 7) and made.names({"x": ["t"]})["x"][:3] == ["t.month.sin", "t.month.cos", "t.hour.sin"]
    for sin, length in ((0, 12), (2, 24), (4, 365)):
        apart = np.linalg.norm(got[0, sin : sin + 2] - got[1, sin : sin + 2])
        assert apart == pytest.approx(2 * np.sin(np.pi / length), rel=1e-2)
        np.testing.assert_allclose(got[1, sin : sin + 2], [0, 1], atol=1e-6)
    np.testing.assert_allclose(got[2, 2:4], [0, -1], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: date_parts(["week"]), "`parts` of `date_parts` must be of year.*got 'week'"),
        (lambda: date_parts(unit="ms"), "`unit` of `date_parts` must be D or s; got 'ms'"),
        (lambda: date_parts().check(TIMED), "`unit` of `date_parts` must be given"),
        (lambda: date_parts(schema=SCHEMA).check(TIMED._replace(x=TIMED.x[:, :1])), "the 2 times that the schema names; got 1"),
        (lambda: date_parts(unit="D").check(TIMED._replace(x=TIMED.y[:, None])), "takes times .n, m., int32; got float32"),
    ],
)
def test_refusals_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()
