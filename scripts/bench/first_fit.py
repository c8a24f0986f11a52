"""A single fit beside scikit-learn's, n rows of 30 columns, float64: the first call, which compiles, and the next.

    python scripts/bench/first_fit.py

prints a table in Markdown, and of which n the next call is faster.
"""

import time

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from arsenal import estimators
from arsenal.records import batch

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_enable_compilation_cache", False)
SIZES, COLUMNS, REPEATS = (500, 5_000, 50_000, 500_000), 30, 5
KEY = jax.random.key(0)


def median_seconds(fit, repeats: int) -> float:
    """Of so many calls."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        fit()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def main() -> None:
    """Print the table."""
    print("| fit | rows | scikit-learn, ms | arsenal, first call, ms | next call, ms | ratio of the next |\n" + "|---" * 6 + "|")
    for name, peer, mine in (
        ("ridge", Ridge(1.0), estimators.ridge(1.0)),
        ("logistic", LogisticRegression(C=1.0, solver="newton-cholesky"), estimators.logistic(1.0)),
    ):
        faster: list[str] = []
        for n in SIZES:
            draw = np.random.default_rng(0)
            x = draw.normal(size=(n, COLUMNS))
            score = x @ draw.normal(size=COLUMNS) / 5
            y = score + draw.normal(size=n) if name == "ridge" else (score + draw.logistic(size=n) > 0).astype(np.int32)
            rows, hp = batch(x=x, y=y), jax.tree.map(np.asarray, mine.hp)
            theirs = median_seconds(lambda peer=peer, x=x, y=y: peer.fit(x, y), REPEATS)
            fit = jax.jit(mine.fit)

            def ours(fit=fit, rows=rows, hp=hp):
                jax.block_until_ready(fit(KEY, rows, hp))

            first, then = median_seconds(ours, 1), median_seconds(ours, REPEATS)
            faster += [f"{n:,}"] if then < theirs else []
            times = f"{theirs * 1e3:.2f} | {first * 1e3:.0f} | {then * 1e3:.2f} | {theirs / then:.1f}"
            print(f"| {name} | {n:,} | {times} |", flush=True)
        print(f"\n{name}: the next call is faster with {', '.join(faster) or 'no number of'} rows\n", flush=True)


if __name__ == "__main__":
    main()
