"""The verbs of the command `arsenal`, a file each; `train` and `tune` stand above, for `python -m arsenal.train`."""
