"""Write what the docs say of the code: options of `conf/`, classes of `arsenal.sklearn`, the gallery, a room's API page.

`python scripts/pages.py` writes the pages; `python scripts/pages.py --check` ends with 1 if they are not as it would
write them. `python scripts/pages.py --pictures RUNS` takes one picture out of the newest report of each experiment
below the folder of runs into `docs/pictures`.
"""

import argparse
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parents[1]
CONF, DOCS, PICTURES = HERE / "conf", HERE / "docs", HERE / "docs" / "pictures"
BEGIN, END = "<!-- scripts/pages.py writes from here -->", "<!-- to here -->"
GROUPS = ("data", "split", "feature", "model", "learner", "loss", "optimizer", "schedule", "metrics")
TELLING = ("_samples", "_restored", "_plane", "_confusion", "_predicted", "curve_return", "curve_bits_per_byte", "curve_loss")
"""Which picture of a report stands for it, the most telling first, by a part of its name; of others none does."""
WIDTH = 720
"""Pixels of a picture, at most."""


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    line = " ".join((text or "").split("\n\n")[0].split())
    found = re.match(r".*?[.;](?=\s|$)", line)
    return (found[0] if found else line).rstrip(".;:") + "."


def targets(node: Any) -> list[str]:
    """Every factory at or below a node, the outermost first."""
    if isinstance(node, list):
        return [target for item in node for target in targets(item)]
    if not isinstance(node, dict):
        return []
    return ([node["_target_"]] if "_target_" in node else []) + [t for value in node.values() for t in targets(value)]


def described(path: Path) -> str:
    """What an option makes, in a sentence."""
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    module, _, name = targets(node)[0].rpartition(".")
    if len(node) > 1 and path.parent.name == "metrics":
        return ", ".join(f"`{metric}`" for metric in node) + "."
    return first_sentence(inspect.getdoc(getattr(importlib.import_module(module), name)))


def options() -> str:
    """The table of options."""
    lines = ["| group | option | makes |", "|---|---|---|"]
    others = ("experiment", "debug", "deployment", "flow")
    groups = sorted((path.name for path in CONF.iterdir() if path.is_dir() and path.name not in others), key=order)
    for group in groups:
        for path in sorted((CONF / group).glob("*.yaml")):
            lines.append(f"| `{group}` | `{path.stem}` | {described(path).replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def faces() -> str:
    """The tables of scikit-learn's classes, and of the factories that have none."""
    from arsenal.sklearn import CLASSES, WITHOUT

    lines = ["| class | kind | factory |", "|---|---|---|"]
    lines += [f"| `{name}` | {one.kind} | `{one.factory.__name__}` |" for name, one in CLASSES.items()]
    lines += ["", "| no class | because |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {why} |" for name, why in WITHOUT.items())])


def order(group: str) -> tuple[int, str]:
    """Groups along the route of the data, then the others."""
    return (GROUPS.index(group) if group in GROUPS else len(GROUPS), group)


def header(path: Path) -> str:
    """The sentences at the head of an experiment's file."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.removeprefix("#").strip() for line in lines[:end])


def results() -> dict[str, list[str]]:
    """The rows of the table in experiments/README.md, by experiment."""
    rows = {}
    for line in (HERE / "experiments" / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"`\w+`", cells[0]):
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def gallery() -> str:
    """The page of experiments: header, result, parts, the file, a picture where there is one."""
    known = results()
    page = ["# Gallery", "", "The experiments that ship: one command trains each, a test reads the result that it states.", ""]
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        name, text = path.stem, path.read_text(encoding="utf-8")
        body = "\n".join(line for line in text.splitlines()[1:] if not line.startswith("#"))
        exercises, steps, result, must = known.get(name, [""] * 4)
        picture = PICTURES / f"{name}.png"
        page += [f"## {name}", "", header(path), "", "```sh", f"arsenal train +experiment={name}", "```", ""]
        page += ["| exercises | steps | test result | must be |", "|---|---|---|---|"]
        page += [f"| {exercises} | {steps} | {result} | {must} |", ""]
        if picture.is_file():
            page += [f"![From the report of {name}](pictures/{picture.name}){{ width=420 }}", ""]
        inside = [f"    {line}".rstrip() for line in ("```yaml", *body.splitlines(), "```")]
        page += [f'??? note "conf/experiment/{path.name}"', "", *inside, ""]
    return "\n".join(page)


def between(text: str, block: str) -> str:
    """The text with the block between the markers."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{rest.partition(END)[2]}"


def rooms() -> dict[str, Any]:
    """Every room of arsenal that offers names, by its name."""
    folders = sorted(path.parent.name for path in (HERE / "arsenal").glob("*/__init__.py"))
    found = {name: importlib.import_module(f"arsenal.{name}") for name in folders}
    found["explain"] = importlib.import_module("arsenal.evaluation.explain")
    return {name: room for name, room in found.items() if getattr(room, "__all__", None)}


def room_page(name: str, room: Any) -> str:
    """A room's page in the API: what it offers, under the name by which it is imported."""
    page = [f"# {name}", "", (inspect.getdoc(room) or "").strip(), ""]
    for offered in sorted(room.__all__, key=str.lower):
        home = getattr(getattr(room, offered), "__module__", room.__name__)
        if factory := getattr(getattr(room, offered), "factory", None):  # a class that is made of it
            where = f"{factory.__module__.rpartition('.')[0]}.{factory.__name__}"
            page += [f"## {offered}", "", f"scikit-learn's face of [`{factory.__name__}`][{where}].", ""]
        elif home.split(".")[0] != "arsenal":
            page += [f"## {offered}", "", f"`{home}.{offered}`, offered here because it keeps the laws as it is.", ""]
        elif importlib.util.find_spec(f"{room.__name__}.{offered}"):  # a submodule has its name
            page += [f"::: {home}.{offered}", ""]
        else:
            page += [f"::: {room.__name__}.{offered}", ""]
    return "\n".join(page)


def pages() -> dict[Path, str]:
    """Every page that is written here, whole."""
    config = DOCS / "guide" / "config.md"
    api = {DOCS / "api" / f"{name}.md": room_page(name, room) for name, room in rooms().items()}
    between_marks = {config: options, DOCS / "guide" / "sklearn.md": faces}
    written = {page: between(page.read_text(encoding="utf-8"), block()) for page, block in between_marks.items()}
    return written | {DOCS / "gallery.md": gallery()} | api


def pictures(runs: Path) -> None:
    """Take the most telling picture of the newest report of every experiment, small."""
    from PIL import Image

    for path in sorted((CONF / "experiment").glob("*.yaml")):
        reports = sorted(runs.glob(f"{path.stem}/*/report/index.html"), key=lambda page: page.stat().st_mtime)
        there = reports[-1].parent.glob("*.png") if reports else ()
        found = sorted((p for p in there if telling(p)[0] < len(TELLING)), key=telling)
        if not found:
            print(f"{path.stem}: no picture below {runs}", file=sys.stderr)
            continue
        image = Image.open(found[0]).convert("RGB")
        image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        target = PICTURES / f"{path.stem}.png"
        image.quantize(64).save(target, optimize=True)
        print(f"{target.relative_to(HERE)}: {found[0].name}, {target.stat().st_size:,} bytes")


def telling(picture: Path) -> tuple[int, bool, str]:
    """The place of a picture among those of its report."""
    kind = next((i for i, word in enumerate(TELLING) if word in picture.stem), len(TELLING))
    return kind, not picture.stem.startswith("test"), picture.stem


def main() -> None:
    """Write, check, or take pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a page is stale")
    parser.add_argument("--pictures", type=Path, metavar="RUNS", help="take pictures out of the reports below this folder first")
    asked = parser.parse_args()
    if asked.pictures:
        pictures(asked.pictures)
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(HERE)}: {'stale; python scripts/pages.py writes it' if asked.check else 'written'}")
        if not asked.check:
            path.write_text(pages()[path], encoding="utf-8")
    sys.exit(bool(asked.check and stale))


if __name__ == "__main__":
    main()
