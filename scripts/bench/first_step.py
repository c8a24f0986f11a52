"""From the end of imports to the first step of `text_gpt`: with nothing in the compile cache, and with everything."""

import json
import os
import statistics
import subprocess
import sys
import tempfile

PROGRAM = """
import sys, time
from arsenal.road import compose, fit
import arsenal.session, orbax.checkpoint, tensorboard.summary.writer.event_file_writer
began = time.perf_counter()
def listen(kind, step, values):
    if kind == "train":
        print(time.perf_counter() - began)
        sys.stdout.flush()
fit(compose("text_gpt", ["length=1", "every.log=1", "run.root=" + sys.argv[1]]), listen)
"""


def seconds(root: str, cache: str) -> float:
    """What a fresh process needed."""
    command = [sys.executable, "-c", PROGRAM, root]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"XDG_CACHE_HOME": cache})
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return float(done.stdout.splitlines()[0])


def main(given: dict) -> dict:
    """Pairs of a cold start and a warm one."""
    pairs = []
    with tempfile.TemporaryDirectory() as root:
        for i in range(given["pairs"]):
            cache = f"{root}/cache{i}"
            cold = seconds(f"{root}/{i}/cold", cache)
            pairs.append((cold, seconds(f"{root}/{i}/warm", cache)))
    ratios = [cold / warm for cold, warm in pairs]
    cold, warm = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {
        "value": statistics.median(ratios),
        "all": [round(ratio, 2) for ratio in ratios],
        "setting": f"cold {cold:.1f} s, warm {warm:.1f} s",
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
