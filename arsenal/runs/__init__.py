"""The run folder: what a run was, did and left behind; the folder is the truth."""
