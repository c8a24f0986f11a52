"""Lengths are read as a researcher says them, and come out as whole steps."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal.data import arrays, nothing
from arsenal.records import batch
from arsenal.training import Length
from arsenal.training.length import UNITS

ROWS = batch(x=[[0.0]] * 100)  # 4 batches of 32 in an epoch


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 1e12), st.sampled_from(UNITS))
def test_a_length_is_read_as_it_is_written(amount, unit):
    length = Length.parse(f"{amount:.17g} {unit}")
    assert length == Length(amount, unit)
    assert Length.parse(length) == length
    assert Length.parse(f"  {amount:.17g}{unit.removesuffix('s')} ") == length, "One step, one epoch; spaces are free."


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 10**9))
def test_a_bare_number_counts_steps(n):
    assert Length.parse(n) == Length.parse(str(n)) == Length.parse(f"{n:_}") == Length(n, "steps")
    assert Length.parse(n).steps(nothing()) == n


@pytest.mark.parametrize(
    "text",
    ["", "steps", "0 steps", "-3 epochs", "30 parsecs", "3 4 epochs", "nan steps", "inf steps", "1e400 steps",
     "1__0 steps", "5,000", None, -1, 0, [3]],
)  # fmt: skip
def test_what_is_no_length_is_shown(text):
    with pytest.raises(ValueError, match="A length is a positive number of steps, epochs, examples, seconds") as error:
        Length.parse(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "size", "steps"),
    [
        ("3 epochs", 32, 12), ("1.5 epochs", 32, 6), ("0.1 epochs", 32, 1), ("1 epoch", None, 1), ("1e2 examples", 32, 4),
        ("1 example", 32, 1), ("97 examples", 32, 4), ("64 examples", 32, 2), ("2.5 steps", 32, 3), ("7", 32, 7),
    ],
)  # fmt: skip
def test_steps_are_rounded_up(text, size, steps):
    assert Length.parse(text).steps(arrays(ROWS, size)) == steps


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 10), st.integers(1, 100))
def test_whole_epochs_are_whole_steps(epochs, size):
    assert Length.parse(f"{epochs} epochs").steps(arrays(ROWS, size)) == epochs * math.ceil(100 / size)


def test_a_length_that_has_no_steps_says_what_has():
    for text in ("60 seconds", "3 epochs"):
        with pytest.raises(ValueError, match="give it in steps or examples"):
            Length.parse(text).steps(nothing())
