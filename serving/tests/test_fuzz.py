"""Requests that schemathesis makes of the OpenAPI document: no 500, and no answer that the document does not describe.

Of a body that is no JSON the document says only that it is text or bytes, so there what is right by the document may
be refused; of JSON it says enough that nothing of the kind may be.
"""

from __future__ import annotations

import json
import subprocess

import pytest
from conftest import example, start
from tensors import tensor
from test_auth import Guarded
from test_cells import passengers  # noqa: F401
from test_clients import environment

SCHEMATHESIS = "schemathesis==4.32.*"


def fuzz(document: str, url: str, *words: str, folder) -> str:
    st = environment("schemathesis", SCHEMATHESIS).parent / "st"
    command = [st, "run", document, "--url", url, "--seed", "1", "--continue-on-failure", "--warnings", "off", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def fuzzed(folder):
    running = start(folder, "--max-batch", "8", "--max-rows", "100")
    yield running
    running.process.terminate()
    _, err = running.process.communicate(timeout=20)
    assert (running.process.returncode, "Traceback" in err) == (0, False), err[-2000:]


@pytest.mark.slow
def test_what_the_document_describes(fuzzed, tmp_path):
    url = f"http://127.0.0.1:{fuzzed.port}"
    said = fuzz(f"{url}/openapi.json", url, "--checks", "all", "--max-examples", "25", "--exclude-checks", "positive_data_acceptance", folder=tmp_path)
    assert "No issues found" in said
    document = fuzzed.ask("GET", "/openapi.json").body
    for verbs in document["paths"].values():
        if content := verbs.get("post", {}).get("requestBody", {}).get("content"):
            for kind in set(content) - {"application/json"}:
                del content[kind]
    # That two inputs share a dimension is nothing that a schema can say.
    document["paths"] = {path: verbs for path, verbs in document["paths"].items() if "lengths" not in path}
    (tmp_path / "json.json").write_text(json.dumps(document))
    said = fuzz("json.json", url, "--checks", "all", "--max-examples", "30", folder=tmp_path)
    assert "No issues found" in said


@pytest.mark.slow
def test_what_the_document_describes_of_a_table_with_gaps(passengers, tmp_path):  # noqa: F811
    running = start(passengers, "--max-batch", "8", "--max-rows", "100")
    url = f"http://127.0.0.1:{running.port}"
    # That a text is a date, a time or an amount is nothing that a schema can say whole.
    said = fuzz(f"{url}/openapi.json", url, "--checks", "all", "--max-examples", "100", "--exclude-checks", "positive_data_acceptance", folder=tmp_path)
    running.process.terminate()
    _, err = running.process.communicate(timeout=20)
    assert "No issues found" in said and (running.process.returncode, "Traceback" in err) == (0, False), err[-2000:]


@pytest.mark.slow
def test_what_another_server_describes_of_the_protocol(fuzzed, tmp_path):
    """MLServer's own documents of the Open Inference Protocol: what they say of answers holds here."""
    (packages,) = environment("mlserver", "--no-deps", "mlserver==1.7.*").parent.parent.glob("lib/*/site-packages")
    checks = "not_a_server_error,content_type_conformance,response_schema_conformance"
    for name in ("dataplane", "model_repository"):
        document = json.loads((packages / "mlserver" / "rest" / "openapi" / f"{name}.json").read_text())
        paths = {}
        for path, verbs in document["paths"].items():
            if "stream" in path or "generate" in path:
                continue
            for operation in (verbs, *(verb for verb in verbs.values() if isinstance(verb, dict))):
                kept = [one for one in operation.pop("parameters", []) if not one["name"].startswith("model_")]
                operation.update(parameters=kept)
            if path.endswith("/infer"):
                asked = {"id": "1", "inputs": [tensor(example()[:1])]}
                verbs["post"]["requestBody"]["content"]["application/json"]["example"] = asked
            paths[path.replace("{model_name}", "zoo").replace("{model_version}", "1")] = verbs
        document["paths"] = paths
        # JSON has no type of this name: it is what the document means.
        text = json.dumps(document).replace('"type": "bytes"', '"type": "string"')
        (tmp_path / f"{name}.json").write_text(text)
        url = f"http://127.0.0.1:{fuzzed.port}"
        said = fuzz(f"{name}.json", url, "--checks", checks, "--max-examples", "30", folder=tmp_path)
        assert "No issues found" in said


@pytest.mark.slow
def test_what_the_document_describes_of_a_server_that_asks_who_it_is(tmp_path):
    guarded = Guarded(tmp_path)
    url, chain = f"https://localhost:{guarded.port}", str(guarded.chain)
    try:
        document = guarded.ask("/openapi.json", X_API_Key=guarded.own)[2]
        (tmp_path / "own.json").write_text(json.dumps(document))
        common = ("--tls-verify", chain, "--checks", "all", "--max-examples", "20", "--exclude-checks", "positive_data_acceptance")
        said = fuzz("own.json", url, *common, "-H", f"Authorization: Bearer {guarded.own}", folder=tmp_path)
        assert "No issues found" in said
    finally:
        guarded.channel.close()
        guarded.process.terminate()
        _, err = guarded.process.communicate(timeout=20)
    assert "Traceback" not in err
