"""The command `arsenal`: a verb, then its own arguments; what goes wrong becomes one line and an exit code."""

import contextlib
import errno
import importlib
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator

from arsenal.nearest import nearest
from arsenal.refusal import Refusal

# Verbs by name, with the module that tells their story and what they do. A Hydra verb takes an experiment.
VERBS = {
    "train": "train an experiment: +experiment=NAME key=value ...",
    "tune": "search a space of runs: +experiment=NAME 'space={KEY: ...}' search=NAME ...",
    "study": "candidates over many splits, with intervals and paired tests: +experiment=NAME splits=NAME 'grid={KEY: [...]}' ...",
    "automl": "the best of a portfolio of learners within a budget, or several as one: +experiment=NAME automl.budget=SECONDS",
    "evaluate": "metrics and an HTML report of a run: run=FOLDER",
    "explain": "why a run answers as it does: run=FOLDER method=NAME",
    "generate": "a text that goes on from a prompt, with a run of text: run=FOLDER prompt=TEXT",
    "likelihood": "multiple choice by log-likelihood, and the perplexity of texts: model=FOLDER questions=FILE",
    "check": "gates and model tests on a run, exit 1 where one fails: run=FOLDER [gates=FILE] [tests=FILE] [against=...]",
    "export": "a run as an artifact to serve: run=FOLDER [to=FOLDER]",
    "export-hf": "a run as a folder that Hugging Face's transformers load: run=FOLDER target=FOLDER",
    "inspect": "what a checkpoint of Hugging Face's is, and whether all of it is understood: hf:FOLDER",
    "predict": "answers for the rows of a file: run=FOLDER input=FILE output=FILE",
    "tokenize": "documents to tokens, by a tokenizer that is given or learned: files=PATHS to=FOLDER",
    "verify-resume": "prove that a killed run resumes bit for bit: +experiment=NAME",
    "flow": "steps of files and values, each done once: run NAME, plan NAME, show NAME, list, compile NAME target=...",
    "step": "one step of a flow, for another scheduler: FLOW NAME execution=...",
    "runs": "what runs there are: list, show run=FOLDER, compare runs=A,B, note run=FOLDER text=..., track, import, rm runs=A,B",
    "registry": "models by name and version: add run=FOLDER, list, show NAME, alias NAME@champion=7, rollback NAME@champion",
    "data": "versions of data in the registry: add NAME SOURCE, list, show NAME@v3, verify NAME@v3, rm NAME@v3",
    "reproduce": "a run again, the same bits or what differs: MODEL or run=FOLDER",
    "deploy": "a model to a place: model=NAME@ALIAS to=TARGET env=PROFILE [apply=true]; rollback, list, show",
    "lineage": "what came of what, from data to deployment: MODEL, run=FOLDER or request=ID log=FILE",
    "monitor": "a served model beside what it learned from: report folder=FOLDER model=ARTIFACT, watch, reference",
    "alerts": "who hears of what monitoring found: check policy=FILE, replay, run findings=FOLDER, list, ack, silence",
    "logs": "what happened, from all logs of a folder in the order of time: FOLDER where=... follow=true",
    "ab": "one experiment on people, from a table of events to a page: TABLE unit=... variant=... outcome=...",
    "new": "a project of your own that trains at once: NAME [to=FOLDER]",
    "completion": "tab completion: eval \"$(arsenal completion bash)\", or zsh, fish",
}
SLOW = (
    "train", "tune", "study", "automl", "evaluate", "explain", "generate", "likelihood", "check", "export", "export-hf",
    "inspect", "predict", "tokenize", "verify-resume", "reproduce", "ab",
)  # fmt: skip
"""Verbs that take seconds before they have anything to tell."""
ABOVE = ("train", "tune")
"""Verbs that are modules of `arsenal` itself, for `python -m arsenal.train`."""


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
    if arguments[:2] == ["completion", "--words"]:
        print("\n".join(importlib.import_module("arsenal.verbs.completion").candidates(arguments[2:])))
        return
    if verb in SLOW and sys.stderr.isatty() and not {"-h", "--help"} & set(arguments):
        print(f"arsenal {verb}: loading JAX", file=sys.stderr, flush=True)
    if verb not in VERBS:
        with report_errors():
            raise UsageError(f"There is no verb `{verb}`.{hint(verb, VERBS)}")
    name = verb.replace("-", "_")
    module = importlib.import_module(home(verb))
    sys.argv = [f"arsenal {verb}", *arguments[1:]]
    if hasattr(module, "VERBS"):
        group(f"arsenal {verb}", module.VERBS, getattr(module, name, None))
    elif "config" in inspect.signature(getattr(module, name)).parameters:
        hydra = importlib.import_module("arsenal.config").main  # a floor below, and slow to load
        hydra(getattr(module, name), f"arsenal {verb}", report_errors, config_name(verb))
    else:
        call(getattr(module, name), f"arsenal {verb}")


def home(verb: str) -> str:
    """The module that tells a verb's story."""
    return f"arsenal.{'' if verb in ABOVE else 'verbs.'}{verb.replace('-', '_')}"


def config_name(verb: str) -> str:
    """The file of conf/ that a verb composes."""
    return verb if verb in ("tune", "study", "automl") else "train"


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UsageError(Refusal):
    """The words of a command are off."""


def as_count(name: str, word: str, least: int = 1) -> int:
    """A word of the command line as a whole number; `UsageError` where it is none or less than the least.

    >>> as_count("length", "40")
    40
    """
    if not (word.isascii() and word.isdigit()) or int(word) < least:
        raise UsageError(f"`{name}` must be a whole number of at least {least}; got {word}.")
    return int(word)


def as_truth(name: str, word: str) -> bool:
    """A word of the command line as true or false; `UsageError` where it is neither.

    >>> as_truth("force", "true")
    True
    """
    if word not in ("true", "false"):
        raise UsageError(f"`{name}` must be true or false; got {word}.")
    return word == "true"


def hint(name: str, names: Iterable[str]) -> str:
    """' Did you mean …?' or, when nothing is near, what there is."""
    return nearest(name, names) or f" There are: {', '.join(names)}."


def group(program: str, verbs: dict[str, Callable[..., None]], own: Callable[..., None] | None = None) -> None:
    """Call one of several verbs by the first word of the command line; `--help` lists them.

    own: what the program does by itself, where the first word is a key=value and no verb.
    """
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if own is not None and "=" in word:
        call(own, program)
        return
    if word in ("-h", "--help"):
        every = {**({"": own} if own else {}), **verbs}
        needs = {" ".join(filter(None, [name, *usage(verb, needed=True)])): verb for name, verb in every.items()}
        width = max(map(len, needs))
        lines = [f"  {text:<{width}}  {(inspect.getdoc(verb) or '').splitlines()[0]}" for text, verb in needs.items()]
        print(f"usage: {program} VERB key=value ...\n\n" + "\n".join(lines) + f"\n\n{program} VERB --help says more.")
        if own is not None:
            print(f"\nusage: {' '.join([program, *usage(own)])}\n\n{inspect.getdoc(own)}")
        return
    if word not in verbs:
        with report_errors():
            raise UsageError(f"`{program}` has no verb `{word}`.{hint(word, verbs)}")
    del sys.argv[1]
    call(verbs[word], f"{program} {word}")


def usage(verb: Callable[..., None], needed: bool = False) -> list[str]:
    """How a verb's arguments are typed, those that may be left out in brackets; or only those that may not."""
    found = []
    for name, p in inspect.signature(verb).parameters.items():
        if p.kind is p.VAR_KEYWORD:
            found += [] if needed else ["[KEY=...]"]
            continue
        text = name.upper() if p.kind is p.POSITIONAL_ONLY else f"{name}=..."
        found += [text] if p.default is p.empty else [] if needed else [f"[{text}]"]
    return found


def call(verb: Callable[..., None], program: str = "") -> None:
    """Call a verb with the words of the command line, `key=value` but for arguments that go by position.

    `--help` prints its docstring. `program` is what the user typed before the words. A verb with `**` takes any key.
    """
    declared = inspect.signature(verb).parameters
    parameters = {n: p for n, p in declared.items() if p.kind is not p.VAR_KEYWORD}
    name = program.rpartition(" ")[2] or verb.__name__
    plain = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_ONLY]
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: {' '.join([program or f'arsenal {name}', *usage(verb)])}\n\n{inspect.getdoc(verb)}")
        return
    given: dict[str, str] = {}
    with report_errors():
        for word in sys.argv[1:]:
            key, equals, value = word.partition("=")
            # NAME@ALIAS=VERSION is one word: no argument is called by an @.
            if (not equals or "@" in key) and (free := [n for n in plain if n not in given]):
                key, value = free[0], word
            elif not equals:
                needed = next((n for n, p in parameters.items() if p.default is p.empty and n not in given), None)
                meant = f" Did you mean `{needed}={word}`?" if needed and not word.startswith("-") else ""
                raise UsageError(f"`{name}` takes key=value; got {word}.{meant}")
            if key not in parameters and len(parameters) == len(declared):
                raise UsageError(f"`{name}` has no argument `{key}`.{hint(key, parameters)}")
            if key in given:
                raise UsageError(f"`{key}` is given twice, as {given[key]} and as {value}.")
            given[key] = value
        missing = [n for n, p in parameters.items() if p.default is p.empty and n not in given]
        if missing:
            raise UsageError(f"`{name}` needs {', '.join(n.upper() if n in plain else f'{n}=...' for n in missing)}.")
        by_position = [given.pop(n) for n in plain if n in given]
        verb(*by_position, **given)


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
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
        number = getattr(error, "number", None)  # of a signal
        code = 128 + number if number else getattr(error, "code", None)
        if code is None and (os.environ.get("ARSENAL_TRACEBACK") or not is_own_error(error)):
            raise
        if not getattr(error, "told", False):
            print(f"arsenal: {one_line(error)}", file=sys.stderr, flush=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            # What could not be written leaves coroutines behind, whose finalisers would bury the line above.
            os._exit(1)
        sys.exit(code or 1)


def is_own_error(error: BaseException) -> bool:
    """Whether the error was raised by arsenal's own code, or by the operating system about a file."""
    raised_in = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = raised_in and raised_in[-1].split(".")[0] in ("arsenal", "arsenal_serving", "__main__")
    return isinstance(error, OSError) or bool(ours and not isinstance(error, AttributeError | KeyError | IndexError | NameError))


def one_line(error: BaseException) -> str:
    """The message without line breaks."""
    if isinstance(error, OSError) and error.strerror:
        saved = " What was saved before is whole; the same command goes on from there." if error.errno in NO_SPACE else ""
        return f"{error.filename or 'A file'}: {error.strerror}.{saved}"
    return " ".join(str(error).split()) or type(error).__name__
