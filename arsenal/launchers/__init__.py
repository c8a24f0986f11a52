"""Launchers: on how many processes and machines one run is trained. A run is a function of its config, so whatever a lost
process held is found again in the last checkpoint.
"""

from arsenal.launchers.launcher import Launcher
from arsenal.launchers.local import local, processes
from arsenal.launchers.ray import ray
from arsenal.launchers.slurm import slurm

__all__ = ["Launcher", "local", "processes", "ray", "slurm"]
