"""Whether a run reaches what its experiment states."""

from typing import Any

import numpy as np


def holds(value: Any, side: str, bound: float) -> bool:
    """Whether a number keeps to a bound, of a population every member's; nothing measured keeps to none.

    >>> holds([0.9, 0.95], "min", 0.9), holds([0.9, 0.5], "min", 0.9), holds(None, "max", 1.0)
    (True, False, False)
    """
    values = np.ravel(np.array([np.nan if one is None else one for one in np.ravel(np.array(value, object))], float))
    return bool((values >= bound).all() if side == "min" else (values <= bound).all())
