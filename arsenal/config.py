"""Configuration: compose with Hydra, check before anything is built, build. The only file that imports Hydra."""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from arsenal.nearest import nearest
from arsenal.refusal import Refusal
from arsenal.runs import migrations
from arsenal.storage.files import Damaged

HERE = Path(__file__).resolve().parent
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"
"""Inside the installed package, or beside it in a checkout."""

TRUSTED = ("arsenal", "optax", "flax.linen", "jax.nn", "sklearn.datasets")
"""What a config may call without being asked; `trusted:` adds packages."""

EXTRAS = ("grain", "tokenizers")
"""Libraries that arsenal's installation leaves out unless it is told, by extra."""


class ConfigError(Refusal):
    """A config cannot be used; the message says what, what is allowed and what came."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A composed and checked experiment."""

    values: dict[str, Any]
    """Plain data, every reference resolved: what is written down, hashed and shown."""
    overrides: list[str]

    @functools.cached_property
    def settings(self) -> "TuningSettings":
        """The values as what they were checked to be: what code reads. Those of other verbs are in theirs."""
        known: dict[str, type[Settings]] = {"sweep": TuningSettings, "study": StudySettings, "automl": AutomlSettings}
        schema = next((one for section, one in known.items() if section in self.values), Settings)
        given = {key: self.values[key] for key in schema.model_fields if key in self.values}
        return schema.model_validate(given)  # type: ignore[return-value]

    def replace(self, values: dict[str, Any]) -> "Config":
        """The config with other values."""
        return Config(values, self.overrides)

    def __repr__(self) -> str:
        """The experiment and what was said of it."""
        return f"Config({' '.join([str(self.values.get('name')), *self.overrides])})"

    def _repr_html_(self) -> str:
        """The config in a notebook, as YAML."""
        return f"<details><summary>{escape(repr(self))}</summary><pre>{escape(as_yaml(self))}</pre></details>"


# What a config holds at its top level, beside keys that it refers to itself with ${...}. This is the one
# place where their types and ranges stand; conf/train.yaml gives their values and says what they are for.
Seed = Annotated[int, Ge(0), Lt(2**32)]
"""What JAX makes a key of; it would cut the rest off without a word."""


class Section(BaseModel, extra="forbid", strict=True):
    """No key but those below it."""


class IntervalSettings(Section):
    """Intervals, as lengths."""

    log: str | int
    evaluate: str | int
    save: str | int


class JudgeSettings(Section):
    """Which values of a metric of the validation rows are good; `mode` null is as the metric knows."""

    metric: str
    mode: Literal["min", "max"] | None


class StoppingSettings(JudgeSettings):
    """When to end before the length; `patience` null never does."""

    patience: Annotated[int, Gt(0)] | None
    min_delta: Annotated[float, Ge(0)]


class CheckpointSettings(JudgeSettings):
    """Which checkpoints are kept."""

    last: Annotated[int, Gt(0)]
    every: str | Annotated[int, Gt(0)] | None
    best: Annotated[int, Ge(0)]


class ProfileSettings(Section):
    """Which steps the profiler sees; `start` null none."""

    start: Annotated[int, Ge(0)] | None
    steps: Annotated[int, Gt(0)]


class RunSettings(Section):
    """Where and how a run is kept."""

    root: str
    checkpoints: CheckpointSettings
    tensorboard: bool
    progress: bool
    trackers: dict[str, Any]
    profile: ProfileSettings
    peak_flops: Annotated[float, Gt(0)] | None


class RaySettings(Section):
    """The cluster that a launcher or a sweep uses; `address` null is one of this machine's own."""

    address: str | None


class Settings(Section):
    """An experiment."""

    name: str
    seed: Seed
    length: str | Annotated[int, Gt(0)]
    batch_size: Annotated[int, Gt(0)] | None
    data: dict[str, Any]
    space: dict[str, dict[str, Any]]
    split: dict[str, Any]
    features: dict[str, Any]
    learner: dict[str, Any]
    metrics: dict[str, Any]
    every: IntervalSettings
    early_stopping: StoppingSettings
    parallel: dict[str, Any]
    launcher: dict[str, Any]
    ray: RaySettings
    on_nan: Literal["stop", "skip", "replay"]
    init_from: str | None
    init_map: dict[str, str | None] | None
    init_allow: list[Literal["missing", "unused"]]
    teacher: str | None
    run: RunSettings
    expect: dict[str, dict[Literal["min", "max"], float]]
    gates: dict[str, dict[str, Any]]
    trusted: list[str]
    tags: list[str]
    registry: str | None
    fresh: bool
    preflight: bool


class SweepSettings(Section):
    """How a space is searched."""

    trials: Annotated[int, Gt(0)]
    metric: str
    mode: Literal["min", "max"] | None
    engine: Literal["auto", "lanes", "ray"]
    lanes: Annotated[int, Gt(0)] | None
    generation: Annotated[int, Gt(0)]
    seed: Seed
    keep: Annotated[int, Ge(0)]
    on_failure: Literal["go_on", "stop"]
    cpus: Annotated[float, Gt(0)]
    gpus: Annotated[float, Ge(0)] | None
    folder: str | None


class TuningSettings(Settings):
    """An experiment and how its space is searched: conf/tune.yaml."""

    search: dict[str, Any]
    scheduler: dict[str, Any] | None
    sweep: SweepSettings


class StudySection(Section):
    """What a study fits, and by what it ranks; `metric` null is the first that is measured."""

    rows: Literal["development", "all"]
    seeds: Annotated[int, Gt(0)]
    sizes: list[Annotated[float, Gt(0), Le(1)]] | None
    nested: Annotated[int, Ge(2)] | None
    answers: bool | None
    metric: str | None
    mode: Literal["min", "max"] | None
    confidence: Annotated[float, Gt(0), Lt(1)]
    lanes: Annotated[int, Gt(0)]
    folder: str | None


class StudySettings(Settings):
    """An experiment, and the candidates and splits that a study judges it by: conf/study.yaml."""

    splits: dict[str, Any]
    grid: dict[str, list[Any]]
    study: StudySection


class AutomlSection(Section):
    """How long a portfolio is searched, and by what it is ranked; `budget` in seconds, `metric` null is as the target says."""

    budget: Annotated[float, Gt(0)] | Annotated[int, Gt(0)]
    metric: str | None
    mode: Literal["min", "max"] | None
    confidence: Annotated[float, Gt(0), Lt(1)]
    ensemble: bool
    stacking: bool
    folder: str | None


class PortfolioSection(Section):
    """Candidates by name, each the values of some keys; of labels, and of numbers."""

    classes: dict[str, dict[str, Any]]
    numbers: dict[str, dict[str, Any]]


class AutomlSettings(Settings):
    """An experiment, the candidates for its place, and the splits that they are judged by: conf/automl.yaml."""

    splits: dict[str, Any]
    portfolio: PortfolioSection
    automl: AutomlSection


SETTINGS: dict[str, type[Settings]] = {
    "train": Settings, "tune": TuningSettings, "study": StudySettings, "automl": AutomlSettings,
}  # fmt: skip
"""What a config of conf/ may hold."""


def compose(
    experiment: str, overrides: Sequence[str] = (), config_dir: str | Path | None = None, name: str = "train"
) -> Config:
    """The named experiment with overrides in Hydra's syntax, checked; `config_dir` adds a folder of one's own.

    `name` is train, tune for a sweep, study or automl.
    """
    own = [] if config_dir is None else [f"hydra.searchpath=[{Path(config_dir).resolve()}]"]
    return compose_words([f"+experiment={experiment}", *overrides, *own], name)


def compose_words(arguments: Sequence[str], name: str = "train") -> Config:
    """The config that the words of a command line ask for, checked."""
    with explain_errors(arguments, name):
        made = hydra(name, replace_space(arguments))
    return validate(take_teacher(take_checkpoint(made, arguments)), list(arguments), SETTINGS[name])


COMPARING = ("arsenal.models.answer_likelihoods", "arsenal.models.student")
"""Models around another one that keep a further one to compare with."""
OF_TASK = ("head", "output")
"""Arguments of a model that the experiment decides, whatever the checkpoint that it begins with."""
AROUND = tuple(f"arsenal.models.{name}" for name in ("answer_likelihoods", "answer_scores", "frozen", "lora", "student"))
"""Models around the one that a checkpoint is of."""


ADAPTED = ("patterns", "rank", "alpha")
"""Arguments of `lora` that say which adapters there are, in the order of `nn.Adapters`."""


def take_checkpoint(composed: Any, arguments: Sequence[str]) -> Any:
    """The config whose `init_from` is `hf:FOLDER` with the model, and the tokenizer where data takes one, of that folder.

    What the words of the command line say of the model stays. A `ConfigError` where the experiment's model is another.
    """
    from omegaconf import open_dict

    configured = composed.get("init_from")
    if not str(configured).startswith("hf:"):
        return composed
    from arsenal.huggingface import read_folder  # loads JAX, which `--help` must not

    try:
        found = read_folder(configured)
    except ValueError as error:
        raise ConfigError(f"`init_from`: {error}") from error
    target, model, key = f"arsenal.models.{found.target}", composed.get("model"), "model"
    said = {word.lstrip("+").partition("=")[0] for word in arguments}
    while model is not None and model.get("_target_") in AROUND:
        if found.adapters and model["_target_"].endswith("lora"):
            with open_dict(composed):
                for name, value in zip(ADAPTED, found.adapters, strict=True):
                    if f"{key}.{name}" not in said:
                        model[name] = value
        model, key = model.get("model"), f"{key}.model"
    if model is None or model.get("_target_") != target:
        raise ConfigError(
            f"`init_from={configured}` is a {found.model_type}, whose model is {target}; the experiment's is "
            f"{'none' if model is None else model.get('_target_')}."
        )
    with open_dict(composed):
        for name, value in found.arguments.items():
            if f"{key}.{name}" not in said and not (name in OF_TASK and name in model):
                model[name] = value
        data: Any = composed.get("data") or {}
        nodes: dict[str, Any] = {"data": data, "data.text": data.get("text")}
        for path, node in nodes.items():
            free = isinstance(node, Mapping) and node.get("tokenizer", "none") is None and f"{path}.tokenizer" not in said
            if found.tokenizer and free:
                node["tokenizer"] = str(found.tokenizer)
    return composed


def take_teacher(composed: Any) -> Any:
    """The config whose `teacher` is a run or `hf:FOLDER` with the teacher's model in its `student`.

    A `ConfigError` where the model is no `student`, or the teacher none that a config describes.
    """
    from omegaconf import OmegaConf, open_dict

    configured, model = composed.get("teacher"), composed.get("model")
    if configured is None or model is None:
        return composed
    if model.get("_target_") != "arsenal.models.student":
        raise ConfigError(f"`teacher` is of the model arsenal.models.student; the experiment's is {model.get('_target_')}.")
    if str(configured).startswith("hf:"):
        from arsenal.huggingface import read_folder  # loads JAX, which `--help` must not

        try:
            found = read_folder(configured)
        except ValueError as error:
            raise ConfigError(f"`teacher`: {error}") from error
        made: Any = {"_target_": f"arsenal.models.{found.target}", **found.arguments}
    else:
        if not (Path(configured) / "config.yaml").is_file():
            raise ConfigError(f"`teacher` must be a run folder, or hf:FOLDER; {configured} has no config.yaml.")
        made = model_section(read_config(Path(configured)).settings)
        while made is not None and made["_target_"] in COMPARING:
            made = made["model"]
        if made is None:
            raise ConfigError(f"`teacher` must be a run of one model; {configured} has none.")
    with open_dict(composed):
        model["teacher"] = OmegaConf.create(made)
    return composed


def compose_profile(name: str, words: Mapping[str, str] = {}, config_dir: str | Path | None = None) -> dict[str, Any]:
    """A deployment's profile, conf/deployment/NAME.yaml, with words (path -> value as typed) in it; whether it holds together
    is `arsenal_serving.deploy.describe`'s to say. A file in `config_dir` goes before arsenal's own of that name.

    >>> compose_profile("staging", {"scale.most": "4", "image.tag": "1.10"})["image"]
    {'tag': '1.10'}
    """
    import yaml
    from arsenal_serving.deploy.description import takes_word
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folders = [CONF] if config_dir is None else [Path(config_dir).resolve(), CONF]
    there = [folder for folder in folders if (folder / "deployment" / f"{name}.yaml").is_file()]
    if not there:
        known = sorted({path.stem for folder in folders for path in (folder / "deployment").glob("*.yaml")})
        raise ConfigError(f"There is no profile `{name}` of a deployment.{suggest(name, known)}")
    given = []
    for key, value in words.items():
        if not re.fullmatch(r"\w+(\.\w+)*", key):
            raise ConfigError(f"`{key}` is no key of a profile; keys are as scale.most.")
        path = f"++deployment.{key}"
        given.append(override_word(path, value) if takes_word(key) and value != "null" else f"{path}={value}")
    searched = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders if folder != there[0])}]"]
    said = there[0] / "deployment" / f"{name}.yaml"
    with explain_errors():
        if not isinstance(own := yaml.safe_load(said.read_text(encoding="utf-8")), dict):
            raise ConfigError(f"{said} must hold sections of keys and values; got {type(own).__name__}.")
        made = hydra(f"deployment/{name}", [*given, *searched], there[0])
    try:
        found: Any = OmegaConf.to_container(made.deployment, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"profile `{name}`: {first_line(error)}") from error
    if "env" not in found:
        raise ConfigError(
            f"{said} must say `env`, development, staging or production, or begin with one, as `defaults: [production, _self_]`."
        )
    return found


def hydra(name: str, words: Sequence[str], folder: Path = CONF) -> Any:
    """Hydra's own answer to the words, also while a job of Hydra's runs, which it would refuse."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance()
    before = running.hydra
    running.clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3", job_name="arsenal"):
            return hydra_compose(name, list(words))
    finally:
        running.hydra = before


REPLACED = ("space", "grid", "portfolio.classes", "portfolio.numbers")
"""Keys whose value on a command line is all of it."""


EMPTIED = ("expect", "gates", "metrics")
"""Keys that may be taken out as a whole."""


def replace_space(arguments: Sequence[str]) -> list[str]:
    """The words for Hydra: `space=...` and the others of `REPLACED` take the place of what is there, where Hydra would merge.

    A home directory is written out, `key=~/folder`, since no shell does it there.
    """
    found = []
    # Of two files that give a key the later wins: what is for debugging, over the experiment.
    debug = [word for word in arguments if re.match(r"\+?debug=", word)]
    for word in [*(word for word in arguments if word not in debug), *(f"+{word.lstrip('+')}" for word in debug)]:
        key, equals, value = word.partition("=")
        if equals and re.match(r"~\w*/", value):
            word = f"{key}='{os.path.expanduser(value)}'"
        if version := DATA_WORD.fullmatch(word):
            word = f"++data.path={DATA}{version[1]}@{version[2]}"
        if equals and value.replace(" ", "") == "{}" and key not in REPLACED and key[:1] not in "+~":
            raise ConfigError(
                f"`{key}={{}}` would change nothing: keys are added to those of `{key}`; "
                f"`~{key}.NAME` takes one out, `~{key}` all."
            )
        found += [f"~{key}", f"+{word}"] if equals and key in REPLACED else [word]
    # Who takes one of these out wants none of it: the key itself stays, which the rest of a config reads.
    emptied = [key for key in EMPTIED if f"~{key}" in found and not any(re.match(rf"\+*{key}[.=]", word) for word in found)]
    return found + [f"+{key}={{}}" for key in emptied]


def grammar_error(override: str, error: BaseException) -> str:
    """Why Hydra's grammar does not take the words of an override."""
    key, equals, value = override.partition("=")
    if not equals and not override.startswith("~"):
        return f"values are given as key=value, without blanks around `=`; got {override!r}."
    if key != key.rstrip() or value != value.lstrip():
        return f"there are no blanks around `=`: {key.strip()}={value.strip()}"
    quoted = '["...", "..."]' if value.startswith("[") else '"..."'
    why = first_line(error)
    return f"{why.partition(': ')[2] or why}; a value with other signs takes quotes, '{key}={quoted}'."


def refuse_options(words: Sequence[str], flags: Sequence[str]) -> None:
    """Raise a `ConfigError` for the first word that looks like an option and is none of Hydra's."""
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and not any(flag.startswith(option) for flag in flags):
            raise ConfigError(f"There is no option `{option}`; values are given as key=value, as optimizer.learning_rate=3e-3.")


def main(
    task: Callable[[Config], Any], program: str, telling: Callable[[], contextlib.AbstractContextManager[None]],
    name: str = "train",
) -> None:  # fmt: skip
    """Run `task` on the config that the command line asks for, as Hydra does: `--help`, `--cfg job`, `--multirun`.

    `telling()` is the context that reports errors: inside a job Hydra would add words of its own to them. `name` is
    train, tune, study or automl.
    """
    from hydra import main as hydra_main
    from hydra._internal.utils import get_args_parser
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    words = sys.argv[1:]
    verb = program.rpartition(" ")[2]
    if {"-h", "--help"} & set(words) and verb not in SETTINGS:
        print(f"usage: {program} +experiment=NAME key=value ...\n\n{inspect.getdoc(task)}\n\nKeys: arsenal train --help.")
        return
    flags = [flag for action in get_args_parser()._actions for flag in action.option_strings]

    failed: list[str] = []

    def job(made):
        about = HydraConfig.get()
        own = [source.path for source in about.runtime.config_sources if source.provider == "command-line"]
        replaced = tuple(word for key in REPLACED for word in (f"~{key}", f"+{key}="))
        given = [word for word in about.overrides.task if not word.startswith(replaced)]
        given += [word for word in words if word.partition("=")[0] in REPLACED]
        given += [f"hydra.searchpath=[{','.join(own)}]"] if own else []
        try:
            with telling():
                task(validate(take_teacher(take_checkpoint(made, given)), given, SETTINGS[name]))
        except SystemExit as end:
            # One run of many that fails is no reason to leave the others out; a signal is meant for all of them.
            if about.mode != RunMode.MULTIRUN or (isinstance(end.code, int) and end.code > 128):
                raise
            failed.append(" ".join(job_words(words, given)))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come through to here, where they become one line
    with telling(), explain_errors(words, name):
        refuse_options(words, flags)
        sys.argv = [program, *replace_space(words)]
        hydra_main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
        if failed:
            raise ConfigError(f"{len(failed)} of these runs failed: {'; '.join(failed)}.")


def job_words(words: Sequence[str], given: Sequence[str]) -> list[str]:
    """Of a multirun's job, the words that the command line does not have as they are: those that tell it from the others."""
    return [word for word in given if word not in words]


@contextlib.contextmanager
def explain_errors(arguments: Sequence[str] = (), name: str = "train"):
    """Turn Hydra's errors into a `ConfigError` of one line that suggests the nearest name among those of the config."""
    import yaml
    from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except MissingConfigException as error:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        raise ConfigError(f"There is no {group or 'config'} `{name}`.{suggest(name, error.options or [])}") from error
    except OverrideParseException as error:
        override = str(error.override).removeprefix("++deployment.")  # of a profile, whose keys are typed without
        raise ConfigError(f"The override `{override}` cannot be read: {grammar_error(override, error)}") from error
    except ConfigCompositionException as error:
        if there := re.search(r"An item is already at '([^']+)'", str(error)):
            raise ConfigError(f"`{there[1]}` is there already: without `+` it takes another value.") from error
        key = re.search(r"Could not (?:override|append to config|delete from config)\.? ?'?([\w./@]+)?", str(error))
        if key and key[1]:
            known = config_keys(arguments, name)
            if key[1] == "experiment":
                chosen = next((word for word in arguments if word.startswith("experiment=")), "experiment=NAME")
                raise ConfigError(f"An experiment is chosen with a plus: `+{chosen}`.") from error
            if key[1] not in known and (CONF / key[1]).is_dir():
                options = ", ".join(sorted(path.stem for path in (CONF / key[1]).glob("*.yaml")))
                raise ConfigError(f"This experiment has no `{key[1]}`, a group of options; there are: {options}.") from error
            if key[1] in known:  # a group of keys that was given others
                raise ConfigError(f"`{key[1]}` takes no keys but those it has; `++{key[1]}.NAME=...` adds one.") from error
            raise ConfigError(f"There is no key `{key[1]}`.{suggest(key[1], known, ' `+` adds one.')}") from error
        raise ConfigError(first_line(error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(first_line(error)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"A file of the config cannot be read: {' '.join(str(error).split())}.") from error
    except ValueError as error:
        if "Config group override must be" not in str(error):
            raise
        pairs = (word.lstrip("+").partition("=")[::2] for word in arguments)
        unnamed = {key: value for key, value in pairs if value in ("null", "true", "false") or re.match(r"[-\d.]", value)}
        given = {key: value for key, value in unnamed.items() if (CONF / key).is_dir()}
        group, value = next(iter(given.items()), ("a group", "no name"))
        options = ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))
        raise ConfigError(f"`{group}` takes one of its options, {options}, or `~{group}` for none; got {value}.") from error


def config_keys(arguments: Sequence[str], name: str) -> list[str]:
    """Every key that the experiment and the options among these words have, as a path with dots; for suggestions."""
    from omegaconf import OmegaConf

    groups = (word for word in arguments if (CONF / word.lstrip("+").partition("=")[0]).is_dir())
    chosen = [*groups, *(word for word in arguments if word.startswith("hydra.searchpath="))]
    try:
        plain = OmegaConf.to_container(hydra(name, chosen), resolve=False)
    except Exception:
        return list(SETTINGS[name].model_fields)
    return list(paths(plain))


def paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the path of every key below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not str(key).startswith("_"):
                yield prefix + str(key)
                yield from paths(value, f"{prefix}{key}.")


def suggest(name: str, names: Sequence[str], otherwise: str = "") -> str:
    """' Did you mean …?' or, when nothing is near, what there is."""
    if near := nearest(name, names):
        return f"{near}{otherwise}"
    top = [str(n) for n in names if "." not in str(n)]
    return f" There are: {', '.join(top)}.{otherwise}" if top else otherwise


def first_line(error: BaseException) -> str:
    """The error's first line that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def validate(composed: Any, overrides: list[str], schema: type[Settings] = Settings) -> Config:
    """Plain values from Hydra's composed config, or a `ConfigError` for the first thing that is wrong with it."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    raw: Any = OmegaConf.to_container(composed, resolve=False)
    if "experiment" in raw:  # where Hydra puts the keys of a file of this group that does not say otherwise
        raise ConfigError("The experiment's file must begin with the line `# @package _global_`; nothing may stand above it.")
    referred = set(re.findall(r"\$\{([A-Za-z_]\w*)", str(raw)))
    try:
        missing = sorted(OmegaConf.missing_keys(composed))
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from error
    if "name" in missing:
        known = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
        raise ConfigError(f"Choose an experiment with +experiment=NAME, for instance {', '.join(known)}.")
    if missing:
        raise ConfigError(f"`{missing[0]}` has no value; give it one with {missing[0]}=...")
    try:
        values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from error
    examine(values, referred, schema)
    return Config(values | {"data": pin_data(values["data"], values["registry"])}, overrides)


DATA_WORD = re.compile(r"data=([A-Za-z0-9][\w.-]*)@([\w-]+)")
"""`data=NAME@v3` on a command line: the experiment's data, of which `path` is a version of the registry."""
DATA = "data:/"
"""What a path of a data version begins with: data:/NAME@3, or data:/NAME@3/INSIDE of a folder."""

PINNED = re.compile(r"(data:/[^@/]+)@v?([0-9]+)(?=/|$)")


def pin_data(node: Any, registry: str | None) -> Any:
    """The data's section with the numbers of the versions that its paths name by alias, or by name alone as the newest."""
    if isinstance(node, dict):
        return {key: pin_data(value, registry) for key, value in node.items()}
    if isinstance(node, list):
        return [pin_data(value, registry) for value in node]
    if not isinstance(node, str) or not node.startswith(DATA):
        return node
    if pinned := PINNED.match(node):
        return f"{pinned[1]}@{pinned[2]}{node[pinned.end():]}"
    name, number, inside = find_data(node, registry)
    return f"{DATA}{name}@{number}{inside}"


def find_data(path: str, registry: str | None) -> tuple[str, int, str]:
    """Name, number and what follows of a path data:/NAME@VERSION; a `ConfigError` where there is no such version."""
    from arsenal.runs.registry import data_versions, open_registry

    reference, slash, inside = path.removeprefix(DATA).partition("/")
    try:
        return *data_versions.resolve(open_registry(registry), reference), slash + inside
    except (ValueError, OSError) as error:
        raise ConfigError(f"`data`: {path}: {error}") from error


def data_references(node: Any) -> list[str]:
    """Every version NAME@3 that a path in the data's section names."""
    if isinstance(node, dict | list):
        return [found for value in (node.values() if isinstance(node, dict) else node) for found in data_references(value)]
    return [node.removeprefix(DATA).partition("/")[0]] if isinstance(node, str) and node.startswith(DATA) else []


def open_data(node: Any, registry: str | None) -> Any:
    """The data's section with each version's place on this machine for its path, after all of its files were found unchanged.

    A `ConfigError` names the first that is gone, changed or new.
    """
    from arsenal.runs.registry import data_versions, open_registry

    if isinstance(node, dict):
        return {key: open_data(value, registry) for key, value in node.items()}
    if isinstance(node, list):
        return [open_data(value, registry) for value in node]
    if not isinstance(node, str) or not node.startswith(DATA):
        return node
    name, number, inside = find_data(node, registry)
    try:
        return f"{data_versions.open_version(open_registry(registry), name, number)}{inside}"
    except (ValueError, OSError) as error:
        raise ConfigError(f"`data`: {error}") from error


ONE_RUN = {"teacher": (TuningSettings, StudySettings, AutomlSettings), "init_from": (StudySettings, AutomlSettings)}
"""Keys of parameters that are read from elsewhere, and the configs of many fits that take none."""


def examine(values: dict[str, Any], referred: set[str], schema: type[Settings] = Settings) -> None:
    """Raise a `ConfigError` for the first value that cannot be used; `referred` are keys that only other keys read."""
    for key in values:
        if key not in schema.model_fields and key not in referred:
            raise ConfigError(f"Nothing reads the key `{key}`.{suggest(key, [*schema.model_fields, *referred])}")
    check_value(schema, {key: values[key] for key in schema.model_fields if key in values}, "")
    for key, kinds in ONE_RUN.items():
        if values[key] is not None and issubclass(schema, kinds):
            raise ConfigError(f"`{key}` is for one run: `arsenal train` takes it.")
    check_lengths(values)
    if values["gates"]:
        from arsenal.evaluation.gates import GateError, read_gates  # draws pictures beside, which `--help` must not load

        try:
            read_gates(values["gates"])
        except GateError as error:
            raise ConfigError(f"`gates`: {error}") from error
    if values.get("init_map") and values.get("init_from") is None:
        raise ConfigError("`init_map` says what parameters of another run are called here; give that run with init_from=RUN.")
    trust = trusted_packages(values["trusted"])
    for key in sorted(values, key=lambda key: key not in referred):
        # What a sweep searches by is made with its space, which is not in its node.
        later = {"_partial_": True} if key in ("search", "scheduler") and values[key] and schema is TuningSettings else {}
        check_targets(values[key] | later if later else values[key], key, trust)


def override_word(key: str, value: Any) -> str:
    """The word of a command line that gives a key a value.

    >>> override_word("optimizer.learning_rate", 1e-05), override_word("note", "null"), override_word("model.hidden", [8, 8])
    ('optimizer.learning_rate=1e-05', "note='null'", 'model.hidden=[8,8]')
    """

    def spelt(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ",".join(f"{k}:{spelt(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list | tuple):
            return "[" + ",".join(map(spelt, value)) + "]"
        if isinstance(value, str):
            plain = re.fullmatch(r"[A-Za-z_][\w/-]*", value) and value.lower() not in ("null", "true", "false", "nan", "inf")
            return value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else repr(value)

    return f"{key}={spelt(value)}"


def override_words(key: str, value: Any) -> list[str]:
    """The words of a command line that give a key a value and nothing else: Hydra would merge a dictionary into what is there.

    >>> override_words("seed", 3), override_words("model", {"width": 8})
    (['seed=3'], ['~model', '+model={width:8}'])
    """
    return [f"~{key}", f"+{override_word(key, value)}"] if isinstance(value, dict) else [override_word(key, value)]


def own_words(words: Sequence[str], taken: Sequence[str]) -> list[str]:
    """The words of a command line but for those that speak of one of these keys or of what is below them.

    >>> own_words(["+experiment=a", "sweep.trials=8", "search=tpe", "searches=2"], ["sweep", "search"])
    ['+experiment=a', 'searches=2']
    """
    return [word for word in words if not re.match(rf"[+~]*({'|'.join(taken)})([=.@/]|$)", word)]


def trusted_packages(packages: Sequence[str]) -> tuple[str, ...]:
    """The packages that may be called. The working directory is where a user's own modules are looked for."""
    if packages and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return (*TRUSTED, *packages)


def check_lengths(values: dict[str, Any]) -> None:
    """Raise a `ConfigError` unless every length can be read."""
    from arsenal.training.length import Length

    kept = values["run"]["checkpoints"]["every"]
    given = {"length": values["length"]} | {f"every.{k}": v for k, v in values["every"].items()}
    for path, text in (given | ({"run.checkpoints.every": kept} if kept else {})).items():
        try:
            length = Length.parse(text)
        except ValueError as error:
            raise ConfigError(f"`{path}`: {error}") from error
        if length.unit == "seconds" and path not in ("every.save", "run.checkpoints.every"):
            raise ConfigError(f"`{path}` must be in steps, epochs or examples; got {text!r}.")


SPLITS = ("train", "validation", "test")


class JudgeMetric(NamedTuple):
    """A metric that a config names: by which key, of which rows, and the rows that the key allows."""

    key: str
    split: str
    metric: str
    allowed: Sequence[str]
    path: tuple[str, ...] = ()
    """Of the section that gives the metric a mode."""


def judge_metrics(settings: Settings) -> list[JudgeMetric]:
    """Every metric in use that the config names. Whatever judges a run or a trial reads what its evaluations measured."""
    found = []
    for name in settings.expect:
        split, _, metric = name.partition("/")
        found.append(JudgeMetric("expect", split, metric, ("validation", "test")))
    judges: list[tuple[str, ...]] = [("early_stopping",)] if settings.early_stopping.patience else []
    judges += [("run", "checkpoints")] if settings.run.checkpoints.best else []
    judges += [("sweep",)] if isinstance(settings, TuningSettings) else []
    for path in judges:
        name = section(settings, path).metric
        split, _, metric = name.partition("/") if name.partition("/")[0] in SPLITS else ("validation", "", name)
        found.append(JudgeMetric(f"{'.'.join(path)}.metric", split, metric, ("validation",), path))
    return found


def model_section(settings: Settings) -> dict[str, Any] | None:
    """What the config says of the learner's model, however deep that learner lies in others; None where there is none."""
    return (learner_section(settings) or {}).get("model")


def learner_section(settings: Settings) -> dict[str, Any] | None:
    """What the config says of the learner that has a model, however deep it lies in others; None where none has."""

    def walk(node):
        if not isinstance(node, dict):
            return None
        own = node.get("model")
        return node if isinstance(own, dict) and "_target_" in own else next(filter(None, map(walk, node.values())), None)

    return walk(settings.learner)


def lora_section(settings: Settings) -> dict[str, Any] | None:
    """What the config says of the adapters around the learner's model; None where there are none."""
    node = model_section(settings) or {}
    while node.get("_target_") in AROUND:
        if node["_target_"].endswith("lora"):
            return node
        node = node["model"]
    return None


def keeps_adapters(adapters: Sequence[Any], settings: Settings) -> bool:
    """Whether adapters that a run begins with, `nn.Adapters`, are its own: of the same layers and the same size."""
    own = lora_section(settings)
    return own is not None and all(own[name] == value for name, value in zip(ADAPTED, adapters, strict=True))


def section(settings: Settings, path: tuple[str, ...]) -> Any:
    """The section at a path."""
    return functools.reduce(getattr, path, settings)


def set_modes(config: Config, modes: dict[tuple[str, ...], str]) -> Config:
    """The config with a mode in each of these sections."""
    values = dict(config.values)
    for path, mode in modes.items():
        inner = values
        for key in path:
            inner[key] = dict(inner[key])
            inner = inner[key]
        inner["mode"] = mode
    return Config(values, config.overrides)


def check_targets(node: Any, path: str, trust: tuple[str, ...]) -> None:
    """Raise a `ConfigError` unless every `_target_` at or below the node can be called with what stands beside it."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            check_targets(item, f"{path}[{i}]", trust)
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        check_call(locate(node["_target_"], path, trust), node, path)
    for key, item in node.items():
        check_targets(item, f"{path}.{key}", trust)


def locate(target: str, path: str, trust: tuple[str, ...]) -> Callable[..., Any]:
    """The function or class at a dotted path within a trusted package."""
    if not any(target == package or target.startswith(f"{package}.") for package in trust):
        raise ConfigError(
            f"`{path}._target_` must be in {', '.join(trust)}, or its package be listed in `trusted`; got {target}."
        )
    module, _, name = target.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        extra = (error.name or "").split(".")[0]
        if extra in EXTRAS:
            raise ConfigError(f'`{path}._target_`: {target} needs a library: pip install "ml-arsenal[{extra}]".') from error
        if error.name and not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise ConfigError(f"`{path}._target_`: there is no module `{error.name}`; got {target}.") from error
    if not callable(getattr(found, name, None)):
        names = [n for n in dir(found) if not n.startswith("_") and callable(getattr(found, n))]
        raise ConfigError(f"`{path}._target_`: `{module}` has no function `{name}`.{suggest(name, names)}")
    made = getattr(found, name)
    home = getattr(getattr(made, "func", made), "__module__", "").split(".")[0]  # of a partial, that of its function
    if home not in {package.split(".")[0] for package in trust}:  # something that the module merely imports
        raise ConfigError(f"`{path}._target_`: `{target}` comes from `{home}`, which is not trusted.")
    return made


def check_call(factory: Callable[..., Any], node: dict[str, Any], path: str) -> None:
    """Raise a `ConfigError` unless the factory's signature accepts the node's keys, types and ranges."""
    name = node["_target_"].rpartition(".")[2]
    parameters = inspect.signature(factory).parameters
    given = {key: value for key, value in node.items() if not key.startswith("_")}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in given:
        if key not in parameters and not open_ended:
            raise ConfigError(f"`{name}` at `{path}` has no argument `{key}`.{suggest(key, list(parameters))}")
    for key, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if needed and key not in given and not node.get("_partial_") and "_args_" not in node:
            raise ConfigError(f"`{name}` at `{path}` needs `{key}`.")
    try:
        whole = getattr(factory, "func", factory)
        hints = typing.get_type_hints(whole if inspect.isfunction(whole) else whole.__init__, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return  # annotations that cannot be read promise nothing
    for key, value in given.items():
        if key in hints and "_target_" not in str(value):
            check_value(hints[key], value, f"{path}.{key}", f" of `{name}`")


def check_value(hint: Any, value: Any, path: str, owner: str = "") -> None:
    """Raise a `ConfigError` unless the value has the type and the range of the annotation."""
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(strict=True, extra="forbid"))
    except PydanticSchemaGenerationError:
        return  # a record or another class of arsenal's: whoever receives it checks it
    except PydanticUserError:
        adapter = TypeAdapter(hint)  # a section, which is strict by itself
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        wrong = error.errors()
        # Of a union every part complains: the one of the value's own type says what is wrong with the value.
        first = next((one for one in wrong if not one["type"].endswith(("_type", "_parsing"))), wrong[0])
        if first["type"] == "missing":
            key = ".".join([*([path] if path else []), *map(str, first["loc"])])
            raise ConfigError(f"`{key}`{owner} is missing.") from error
        where = ".".join([*([path] if path else []), *(str(part) for part in first["loc"] if part in walk_keys(value))])
        said = first["msg"].removeprefix("Input ").removeprefix("should ")
        dots = re.fullmatch(r"(\d+)\.\.(\d+)", str(first["input"]))
        meant = f" With --multirun, range({dots[1]},{int(dots[2]) + 1}) gives each." if dots else ""
        raise ConfigError(f"`{where}`{owner} must {said}; got {first['input']!r}.{meant}") from error


def walk_keys(value: Any) -> set[Any]:
    """Every key and position in nested dicts and lists."""
    if isinstance(value, dict):
        return set(value).union(*(walk_keys(v) for v in value.values()))
    return set(range(len(value))).union(*(walk_keys(v) for v in value)) if isinstance(value, list) else set()


def instantiate(node: Any, path: str, schema: Any = None) -> Any:
    """What a checked node describes: its `_target_` called, innermost first; a refusal is a `ConfigError`.

    Every factory in it that has an argument `schema` is given the data's.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(node if schema is None else give_schema(node, schema), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ValueError | TypeError | OSError | ImportError):
            raise ConfigError(f"`{path}`: {cause}") from error
        raise


def give_schema(node: Any, schema: Any) -> Any:
    """The node with `schema` given to every factory that takes one."""
    from hydra.utils import get_object

    if isinstance(node, list):
        return [give_schema(one, schema) for one in node]
    if not isinstance(node, dict):
        return node
    node = {key: give_schema(value, schema) for key, value in node.items()}
    if "_target_" in node and "schema" not in node:
        factory = get_object(node["_target_"])
        if "schema" in inspect.signature(factory).parameters:
            node["_target_"] = functools.partial(factory, schema=schema)
    return node


def train_defaults() -> tuple[dict[str, Any], list[str]]:
    """What a run has that says nothing of its own, and the groups of options among it."""
    import yaml

    found, groups = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8")), []
    for entry in found["defaults"]:
        for group, option in entry.items() if isinstance(entry, dict) else ():
            if (CONF / group / f"{option}.yaml").is_file():
                found[group] = yaml.safe_load((CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
                groups.append(group)
    return found, groups


def experiment_yaml(values: dict[str, Any], comment: str) -> str:
    """Values of a config as the file of an experiment, without what every run has anyway."""
    import yaml

    today, groups = train_defaults()
    own = {key: value for key, value in values.items() if key in Settings.model_fields and value != today.get(key, ...)}
    # An option that is another one takes the place of the default, with which Hydra would merge it.
    made = {"defaults": [*({f"override /{group}": None} for group in groups if group in own), "_self_"], **own}
    return f"# @package _global_\n# {comment}\n{yaml.safe_dump(made, sort_keys=False, default_flow_style=False, width=120)}"


def as_yaml(config: Config) -> str:
    """The config as YAML."""
    import yaml

    return yaml.safe_dump(config.values, sort_keys=False, default_flow_style=False)


def read_config(folder: Path) -> Config:
    """The config that a run folder holds, checked again."""
    import yaml

    path, words = folder / "config.yaml", folder / "overrides.txt"
    if not words.is_file():
        raise ConfigError(f"{folder} has no overrides.txt, which says how the run was composed; bring it back from a copy.")
    overrides = words.read_text(encoding="utf-8").splitlines()
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        values["run"]["checkpoints"], values["learner"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise Damaged(path, f"{type(error).__name__}: {first_line(error)}") from error
    return restore_config(values, overrides)


def restore_config(values: dict[str, Any], overrides: Sequence[str]) -> Config:
    """The config of values that were kept, perhaps by an older version, checked again."""
    from omegaconf import OmegaConf

    today, _ = train_defaults()
    values = migrations.migrate_config(values, {key: value for key, value in today.items() if key in Settings.model_fields})
    referred = [key for key in values if key not in Settings.model_fields]
    config = validate(OmegaConf.create({k: v for k, v in values.items() if k not in referred}), list(overrides))
    return Config(values, config.overrides)
