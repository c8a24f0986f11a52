"""`arsenal completion bash|zsh|fish`: tab completion of verbs, experiments, groups, keys and arguments."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence

from arsenal import cli

SCRIPTS = {
    "bash": """_arsenal() {
  local IFS=$'\\n'
  COMPREPLY=($(arsenal completion --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//[=:]}
complete -F _arsenal arsenal""",
    "zsh": """_arsenal() {
  local -a found
  found=(${(f)"$(arsenal completion --words "${words[@]:1:$((CURRENT - 1))}" 2>/dev/null)"})
  compadd -S '' -- ${(M)found:#*=}
  compadd -- ${found:#*=}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _arsenal arsenal""",
    "fish": """complete -c arsenal -f -a '(arsenal completion --words (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'""",
}
"""What a shell reads once; each asks `arsenal completion --words` for what may stand at the cursor."""


def completion(shell: str, /) -> None:
    """Print what a shell reads for tab completion: eval "$(arsenal completion bash)" in its start-up file.

    For fish it is: arsenal completion fish | source

    SHELL: bash, zsh or fish.
    """
    if shell not in SCRIPTS:
        raise cli.UsageError(f"SHELL must be one of {', '.join(SCRIPTS)}; got {shell}.")
    print(SCRIPTS[shell])


def candidates(words: Sequence[str]) -> list[str]:
    """What may stand in the place of the last word, which may be empty, behind the others."""
    *before, last = words or [""]
    found = cli.VERBS if not before else arguments(before, last)
    return sorted({word for word in found if word.startswith(last)})


def arguments(before: Sequence[str], last: str) -> Iterator[str]:
    """Words of a verb."""
    verb = before[0]
    if verb not in cli.VERBS:
        return
    module = importlib.import_module(cli.home(verb))
    if hasattr(module, "VERBS"):
        own = getattr(module, verb.replace("-", "_"), None)
        if len(before) == 1:
            yield from module.VERBS
        if own is not None and (len(before) == 1 or "=" in before[1]):
            yield from argument_names(own)
        elif len(before) > 1 and before[1] in module.VERBS:
            yield from argument_names(module.VERBS[before[1]])
            yield from getattr(module, "names", lambda words: ())(before[2:])
        return
    called = getattr(module, verb.replace("-", "_"))
    if "config" in inspect.signature(called).parameters:
        yield from overrides(before[1:], last, cli.config_name(verb))
    else:
        yield from argument_names(called)


def argument_names(verb: Callable[..., None]) -> Iterator[str]:
    """A verb's own arguments, as far as they are named."""
    for name, parameter in inspect.signature(verb).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.VAR_KEYWORD):
            yield f"{name}="


def overrides(before: Sequence[str], last: str, name: str) -> Iterator[str]:
    """Experiments, options of groups, and keys of the experiment that was chosen."""
    from arsenal.config import CONF, config_keys

    key, equals, _ = last.partition("=")
    if equals and (CONF / key.lstrip("+")).is_dir():
        yield from (f"{key}={path.stem}" for path in sorted((CONF / key.lstrip("+")).glob("*.yaml")))
        return
    groups = [folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "flow"]
    yield from (f"{plus}{group}=" for group in groups for plus in ("", "+"))
    if any(word.startswith("+experiment=") for word in before):
        yield from (f"{key}=" for key in config_keys(before, name))
