"""Environments, and learners that act in them."""

from arsenal.rl.cartpole import cartpole
from arsenal.rl.ppo import ppo

__all__ = ["cartpole", "ppo"]
