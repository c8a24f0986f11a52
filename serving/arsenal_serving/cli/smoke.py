"""The verb `smoke`: whether a server that was just deployed gives the answers of the model that was meant.

The model is loaded here, which proves its golden answers once more, and asked what the server is asked.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import golden, program, versions
from arsenal_serving.cli.bench import golden_inputs
from arsenal_serving.cli.replay import of_server
from arsenal_serving.deploy import health
from arsenal_serving.model import ServedModel, make
from arsenal_serving.protocols import open_inference
from arsenal_serving.protocols.open_inference import DTYPES, WORDS, to_json
from arsenal_serving.refused import Refused, report, show


def smoke(url: str, path: str, headers: dict[str, str] | None = None, ca: str = "") -> dict[str, Any]:
    """Ask every public method at a URL the golden inputs of the model in a folder; how far each output is off.

    ca: a file of certificates of the only authorities to trust. Raises `Refused` for another version, an answer that is
    none, and one beyond the method's tolerance.
    """
    folder = versions.locate(path)
    files = artifact.open_version(folder).files
    model = make(folder, files)
    kept = artifact.read_arrays(files[artifact.GOLDEN], artifact.GOLDEN)
    differences: dict[str, float] = {}
    with of_server(url, None, headers, ca) as ask:
        for name, method in model.methods.items():
            line: dict[str, Any] = {"id": f"smoke-{name}", "model": f"{model.name}.{name}"}
            line["inputs"] = _tensors(model, kept, name)
            status, text, _ = ask(line)
            if status != 200:
                raise Refused(f"{url} answers {status} to {line['model']}: {show(text.decode(errors='replace'), 300)}")
            got = orjson.loads(text)
            if str(got.get("model_version")) != str(model.version):
                raise Refused(f"{url} serves version {got.get('model_version')} of {model.name}, not {model.version}.")
            request = open_inference.parse(method, orjson.dumps({"inputs": line["inputs"]}))
            answers = model.infer(name, request.inputs)
            content, _ = open_inference.write(model, method, line["model"], request, answers)
            found = {tensor["name"]: tensor for tensor in got["outputs"]}
            for wanted in orjson.loads(content)["outputs"]:
                key = f"{name}.{wanted['name']}"
                differences[key] = _compare(model, name, wanted, found.get(wanted["name"]), key)
    return {"model": model.name, "version": model.version, "url": url, "differences": differences}


def _tensors(model: ServedModel, kept: dict[str, np.ndarray], method: str) -> list[dict[str, Any]]:
    """A method's golden inputs as JSON has them."""
    loaded = model.methods[method]
    rows = len(kept[f"{method}/input/{loaded.inputs[0].name}"]) if loaded.inputs else 1
    return [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": "BYTES" if array.dtype.kind in "OU" else WORDS[array.dtype],
            "data": orjson.loads(orjson.dumps(to_json(array.reshape(-1)), option=orjson.OPT_SERIALIZE_NUMPY)),
        }
        for name, array in golden_inputs(model, kept, method, rows).items()
    ]


def _compare(model: ServedModel, method: str, wanted: dict[str, Any], got: dict[str, Any] | None, key: str) -> float:
    if got is None or any(got[field] != wanted[field] for field in ("shape", "datatype")):
        raise Refused(f"output {key} has another shape or type than the model's: {show(got and got['shape'])}.")
    if wanted["datatype"] == "BYTES":
        if got["data"] != wanted["data"]:
            raise Refused(f"output {key} is not the model's: {show(got['data'])}, not {show(wanted['data'])}.")
        return 0.0
    numbers = ([float(v) if isinstance(v, str) else v for v in tensor["data"]] for tensor in (wanted, got))
    one, other = (np.array(values, DTYPES[wanted["datatype"]]) for values in numbers)
    slack = 1.0 if model.manifest["platform"] == program.platform() else golden.OTHER_PLATFORM
    rtol, atol = (model.methods[method].tolerance[field] * slack for field in ("rtol", "atol"))
    far = golden.difference(other, one)
    if not golden.is_near(other, one, rtol, atol):
        raise Refused(f"output {key} differs by {far:g}, allowed {golden.tolerate(one, rtol, atol):g}.")
    return far


def main(words: Sequence[str], about: str) -> int:
    """The verb: 0 where every answer is the model's, 1 where one is not or cannot be had."""
    parser = argparse.ArgumentParser(prog="arsenal-serve smoke", description=about)
    parser.add_argument("url", metavar="URL", help="http://HOST:PORT of the server")
    parser.add_argument("model", metavar="MODEL", help="the folder of the model that it is to serve")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE", help="to send; repeatable")
    parser.add_argument("--ca", default="", metavar="FILE", help=health.CA)
    parser.add_argument("--json", action="store_true", help="say it in JSON")
    given = parser.parse_args(words)
    headers = {}
    for header in given.header:
        name, colon, value = header.partition(":")
        if not colon or not name:
            parser.error("--header must be 'NAME: VALUE'")
        headers[name.strip().lower()] = value.strip()
    try:
        facts = smoke(given.url, given.model, headers, given.ca)
    except Refused as error:
        return report(error)
    except (OSError, http.client.HTTPException) as error:
        return report(Refused(f"{given.url} does not answer: {error}."))
    if given.json:
        sys.stdout.write(f"{json.dumps(facts, indent=1)}\n")
    else:
        sys.stdout.write(f"{facts['model']} {facts['version']} at {facts['url']} gives the model's answers\n")
        for key, far in facts["differences"].items():
            sys.stdout.write(f"  {key}: within {far:g}\n")
    return 0
