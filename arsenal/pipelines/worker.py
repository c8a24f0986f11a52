"""The process of one step: reads a task from its first line, does it, leaves an answer, and ends when nobody holds its pipe."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Do the task of the first line; `sys.argv[1]` is where the answer goes."""
    from arsenal.pipelines.work import Task, call, how_it_ended, last_words, read_value, tell

    task = Task(*json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=watch, daemon=True).start()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    values, error = {}, ""
    if task.call:
        try:
            values = call(task)
        except (Exception, SystemExit) as problem:
            error = tell(problem, task)
        try:
            values = {name: read_value(name, value) for name, value in values.items() if value is not None}
        except ValueError as problem:
            values, error = {}, str(problem)
    else:
        # Who is asked to end may have to save something first.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        try:
            done = subprocess.run(task.words, stdin=subprocess.DEVNULL)
            if done.returncode:
                said, error = last_words(task.log).removeprefix("arsenal: "), how_it_ended(done.returncode)
                error = f"{error[:-1]}: {said}" if said else error
        except OSError as problem:
            error = f"{task.words[0]}: {problem.strerror}."
    sys.stdout.flush()
    partial = f"{sys.argv[1]}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump({"values": values, "error": error}, file)
    os.replace(partial, sys.argv[1])


def watch() -> None:
    """Wait for the pipe to be closed, and end with all that was started."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
