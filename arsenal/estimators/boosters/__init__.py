"""Fitted ensembles of trees of other libraries, read from what those libraries write of them, as `Trees`."""

from arsenal.estimators.boosters.catboost import read_catboost as read_catboost
from arsenal.estimators.boosters.ensemble import Ensemble as Ensemble
from arsenal.estimators.boosters.ensemble import answers_of as answers_of
from arsenal.estimators.boosters.lightgbm import read_lightgbm as read_lightgbm
from arsenal.estimators.boosters.xgboost import read_xgboost as read_xgboost
from arsenal.estimators.boosters.ydf import read_ydf as read_ydf

__all__ = ["Ensemble", "answers_of", "read_catboost", "read_lightgbm", "read_xgboost", "read_ydf"]
