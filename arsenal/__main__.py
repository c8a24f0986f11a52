"""`python -m arsenal` is the command `arsenal`."""

from arsenal.cli import arsenal

arsenal()
