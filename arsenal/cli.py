"""The command `arsenal`: a verb, then its own arguments; what goes wrong becomes one line and an exit code."""

import contextlib
import difflib
import errno
import importlib
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable

# Verbs by name, with the module that tells their story and what they do. A Hydra verb takes an experiment.
VERBS = {
    "train": "train an experiment: +experiment=NAME key=value ...",
    "evaluate": "metrics and an HTML report of a run: run=FOLDER",
    "export": "a run as an artifact to serve: run=FOLDER [to=FOLDER]",
    "predict": "answers for the rows of a file: run=FOLDER input=FILE output=FILE",
    "verify-resume": "prove that a killed run resumes bit for bit: +experiment=NAME",
}


def arsenal() -> None:
    """Run the verb that the command line names."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, VERBS))
        print("usage: arsenal VERB ...\n\n" + "\n".join(f"  {name:<{width}}  {what}" for name, what in VERBS.items()))
        print("\narsenal VERB --help says more. An artifact is served by arsenal-serve FOLDER.")
        return
    if arguments[0] == "--version":
        from arsenal import __version__

        print(__version__)
        return
    verb = arguments[0]
    if verb not in VERBS:
        with telling():
            raise UsageError(f"There is no verb `{verb}`.{hint(verb, VERBS)}")
    name = verb.replace("-", "_")
    module = importlib.import_module(f"arsenal.{name}")
    sys.argv = [f"arsenal {verb}", *arguments[1:]]
    if "config" in inspect.signature(getattr(module, name)).parameters:
        module.main(getattr(module, name), f"arsenal {verb}", telling)
    else:
        call(getattr(module, name))


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UsageError(Exception):
    """The words of a command are off."""


def hint(name: str, names) -> str:
    """' Did you mean …?' or, when nothing is near, what there is."""
    close = difflib.get_close_matches(name, list(names), 1)
    return f" Did you mean `{close[0]}`?" if close else f" There are: {', '.join(names)}."


def call(verb: Callable[..., None]) -> None:
    """Call a verb with the `key=value` words of the command line; `--help` prints its docstring."""
    parameters = inspect.signature(verb).parameters
    if {"-h", "--help"} & set(sys.argv[1:]):
        words = [f"{n}=..." if p.default is p.empty else f"[{n}=...]" for n, p in parameters.items()]
        print(f"usage: arsenal {verb.__name__} {' '.join(words)}\n\n{inspect.getdoc(verb)}")
        return
    given = {}
    with telling():
        for word in sys.argv[1:]:
            key, equals, value = word.partition("=")
            if not equals:
                raise UsageError(f"`{verb.__name__}` takes key=value; got {word}.")
            if key not in parameters:
                raise UsageError(f"`{verb.__name__}` has no argument `{key}`.{hint(key, parameters)}")
            given[key] = value
        missing = [name for name, p in parameters.items() if p.default is p.empty and name not in given]
        if missing:
            raise UsageError(f"`{verb.__name__}` needs {', '.join(f'{name}=...' for name in missing)}.")
        verb(**given)


@contextlib.contextmanager
def telling():
    """Turn an error that speaks to the user into one line on stderr and exit code 1.

    Such are the errors that arsenal's own code raises, and those of the operating system. Any other is a
    defect and keeps its traceback, as every error does when ARSENAL_TRACEBACK is set. A warning is one line too.
    """
    warnings.formatwarning = lambda message, *where, **more: f"arsenal: {message}\n"
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        number = getattr(error, "number", None)
        if number is None and (os.environ.get("ARSENAL_TRACEBACK") or not speaks(error)):
            raise
        print(f"arsenal: {one_line(error)}", file=sys.stderr, flush=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            # What could not be written leaves coroutines behind, whose finalisers would bury the line above.
            os._exit(1)
        sys.exit(128 + number if number else 1)


def speaks(error: BaseException) -> bool:
    """Whether the error was raised by arsenal's own code, or by the operating system about a file."""
    raised_in = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = raised_in and raised_in[-1].split(".")[0] in ("arsenal", "arsenal_serving", "__main__")
    return isinstance(error, OSError) or bool(ours and not isinstance(error, AttributeError | KeyError | IndexError | NameError))


def one_line(error: BaseException) -> str:
    """The message without line breaks."""
    if isinstance(error, OSError) and error.strerror:
        saved = "What was saved before is whole; the same command goes on from there."
        return f"{error.filename or 'A file'}: {error.strerror}. {saved}"
    return " ".join(str(error).split()) or type(error).__name__
