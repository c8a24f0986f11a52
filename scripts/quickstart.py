"""From nothing to a served prediction: train, evaluate, export, serve, ask; each step is a command anybody can type."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

EXPERIMENT = "digits_mlp"
BIN = Path(sys.executable).parent


def say(*words: str) -> list[str]:
    """The command, shown as one would type it."""
    print(f"\n$ {' '.join(words)}", flush=True)
    return [str(BIN / words[0]), *words[1:]]


def main() -> None:
    """Walk the road and print the answer and the run folder."""
    subprocess.run(say("arsenal", "train", f"+experiment={EXPERIMENT}"), check=True)
    folder = max(Path("experiments", EXPERIMENT).glob("*/status.json"), key=lambda path: path.stat().st_mtime).parent
    subprocess.run(say("arsenal", "evaluate", f"run={folder}"), check=True)
    subprocess.run(say("arsenal", "export", f"run={folder}"), check=True)

    from sklearn.datasets import load_digits

    image = load_digits().images[0]
    body = {"inputs": [{"name": "x", "shape": [1, 8, 8], "datatype": "FP32", "data": image.ravel().tolist()}]}
    server = subprocess.Popen(say("arsenal-serve", str(folder), "--port", "0"), stdout=subprocess.PIPE, text=True)
    try:
        ready = next((line for line in server.stdout if "http://" in line), "")
        print(ready.strip())
        url = re.search(r"http://[\w.:\[\]]+", ready)[0].rstrip("/") + f"/v2/models/{EXPERIMENT}/infer"
        print(f"\nPOST {url}\n" + "\n".join("".join(" .:-=+*#%@"[int(v * 9 / 16)] * 2 for v in row) for row in image))
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            print(f"answer: {response.read().decode()}")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    print(f"\nrun folder: {folder}\nreport:     {folder / 'report' / 'index.html'}")


if __name__ == "__main__":
    main()
