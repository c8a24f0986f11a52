"""What a step costs beside its own ten milliseconds with Dagster: a job of ops, executed in the process."""

import importlib.metadata
import json
import os
import sys
import tempfile
import time


def main(given: dict) -> dict:
    """Steps a second of what is spent beside their own sleep."""
    import dagster

    def rest(i):
        @dagster.op(name=f"s{i}")
        def one():
            time.sleep(given["seconds"])
            return i

        return one

    made = [rest(i) for i in range(given["steps"])]

    @dagster.job
    def bench():
        for one in made:
            one()

    rates = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DAGSTER_HOME"] = folder
        instance = dagster.DagsterInstance.ephemeral() if not given["kept"] else dagster.DagsterInstance.get()
        for _ in range(given["windows"] + 1):
            began = time.perf_counter()
            assert bench.execute_in_process(instance=instance).success
            rates.append(given["steps"] / (time.perf_counter() - began - slept(given)))
        instance.dispose()
    kept = "events and results on disk" if given["kept"] else "events and results in memory"
    setting = f"{given['steps']} ops of {given['seconds'] * 1000:g} ms, executed in process, {kept}"
    return {"rates": rates[1:], "setting": setting, "versions": {"dagster": importlib.metadata.version("dagster")}}


def slept(given: dict) -> float:
    """What the sleeps themselves take here."""
    began = time.perf_counter()
    for _ in range(given["steps"]):
        time.sleep(given["seconds"])
    return time.perf_counter() - began


print(json.dumps(main({"kept": True} | json.loads(sys.argv[1]))))
