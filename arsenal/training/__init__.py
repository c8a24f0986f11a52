"""How learning goes on: the driver, lengths, and learners made of models, losses and optimizers."""

from arsenal.training.adversarial import adversarial
from arsenal.training.diffusion import diffusion, flow_matching
from arsenal.training.driver import TrainState, advance, drive, start
from arsenal.training.length import Length
from arsenal.training.supervised import additive as supervised_additive
from arsenal.training.supervised import supervised

__all__ = [
    "Length", "TrainState", "advance", "adversarial", "diffusion", "drive", "flow_matching", "start", "supervised",
    "supervised_additive",
]  # fmt: skip
