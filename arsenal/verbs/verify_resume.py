"""`arsenal verify-resume +experiment=NAME`: 2N steps against N, a kill, and N more; the same bits or it fails."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arsenal.config import Config


def verify_resume(config: Config) -> None:
    """Train twice in folders of its own, once killed with SIGKILL half way; print both hashes."""
    import jax

    from arsenal.data.source import feed
    from arsenal.experiment import build
    from arsenal.run import load
    from arsenal.runs.checkpoints import digest
    from arsenal.runs.folder import RunError
    from arsenal.training.length import Length

    train = build(config).splits["train"]
    total = Length.parse(config.settings.length).steps(feed(train, config.settings.batch_size, jax.random.key(0)))
    half = max(1, total // 2)

    def command(root: str, length: int) -> list[str]:
        return [
            sys.executable, "-m", "arsenal.train", *config.overrides, f"length={length}", f"run.root={root}",
            f"every.save={half}", "run.progress=false", "run.tensorboard=false", "fresh=false",
        ]  # fmt: skip

    def train_in(root: str) -> str:
        done = subprocess.run(command(root, 2 * half), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RunError(f"Training failed: {done.stderr.strip()}")
        folder = next(path.parent for path in Path(root).glob("*/*/config.yaml"))
        return digest(load(folder).restored)

    with tempfile.TemporaryDirectory() as root:
        one, other = f"{root}/uninterrupted", f"{root}/killed"
        whole = train_in(one)
        print(f"{2 * half} steps:                  {whole}")
        process = subprocess.Popen(command(other, 2 * half), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(Path(other).glob(f"*/*/checkpoints/{half:010d}/commit.json")):
            time.sleep(0.001)
        process.kill()
        how = "killed" if process.wait() == -signal.SIGKILL else "too quick to be killed"
        resumed = train_in(other)
        print(f"{half}, {how}, {half} more: {resumed}", flush=True)
        if resumed != whole:
            raise RunError("The resumed run differs from the uninterrupted one.")
    print("The same bits.")
