"""Launchers: on how many processes and machines one run is trained. A run is a function of its config, so whatever a lost
process held is found again in the last checkpoint.
"""

from arsenal.search.launchers.launcher import Launcher
from arsenal.search.launchers.local import local, processes
from arsenal.search.launchers.ray import ray
from arsenal.search.launchers.slurm import slurm

__all__ = ["Launcher", "local", "processes", "ray", "slurm"]
