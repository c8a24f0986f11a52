"""Combinators: each takes records and returns a record."""

from arsenal.combine.accumulate import learner
from arsenal.combine.chain import after, chain
from arsenal.combine.ema import ema
from arsenal.combine.population import ensemble, lanes, population
from arsenal.combine.skipping import skipping
from arsenal.combine.whole import whole

__all__ = ["after", "chain", "ema", "ensemble", "lanes", "learner", "population", "skipping", "whole"]
