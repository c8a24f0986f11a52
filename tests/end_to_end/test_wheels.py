"""The wheels hold all that a run needs: installed anywhere, without the checkout, the commands work."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheels")
    for source in (CHECKOUT, CHECKOUT / "serving"):
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return {path.name.split("-")[0]: zipfile.ZipFile(path) for path in folder.glob("*.whl")}


def test_what_travels(wheels):
    assert wheels.keys() == {"ml_arsenal", "ml_arsenal_serving"}
    names = wheels["ml_arsenal"].namelist()
    for path in (CHECKOUT / "conf").rglob("*.yaml"):
        assert f"arsenal/conf/{path.relative_to(CHECKOUT / 'conf')}" in names
    for path in (CHECKOUT / "arsenal").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(CHECKOUT).as_posix() in names
    assert "arsenal/evaluation/report.html" in names
    for wheel in wheels.values():
        assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist()) or wheel is not wheels["ml_arsenal"]
        assert not [name for name in wheel.namelist() if "test" in name.split("/")[0] or "__pycache__" in name]


def test_both_have_one_version(wheels):
    metadata = {}
    for name, wheel in wheels.items():
        (path,) = (path for path in wheel.namelist() if path.endswith(".dist-info/METADATA"))
        metadata[name] = wheel.read(path).decode()
    version = {name: text.partition("\nVersion: ")[2].partition("\n")[0] for name, text in metadata.items()}
    assert version["ml_arsenal"] == version["ml_arsenal_serving"]
    assert f"Requires-Dist: ml-arsenal-serving=={version['ml_arsenal']}\n" in metadata["ml_arsenal"]


@pytest.mark.slow
def test_they_work_without_the_checkout(wheels, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for wheel in wheels.values():
        wheel.extractall(site)
    # -S keeps the environment's own, editable arsenal out; the libraries come by path.
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    env = {"PYTHONPATH": f"{site}:{libraries}", "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def python(*words):
        done = subprocess.run([sys.executable, "-S", *words], capture_output=True, text=True, cwd=elsewhere, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    where = python("-c", "import arsenal, arsenal_serving; print(arsenal.__file__, arsenal_serving.__file__)")
    assert all(path.startswith(str(site)) for path in where.split())
    config = yaml.safe_load(python("-m", "arsenal.train", "+experiment=digits_mlp", "--cfg", "job"))
    assert config["name"] == "digits_mlp" and config["learner"]["model"] == "${model}"
    assert list(elsewhere.iterdir()) == []
    python("-m", "arsenal.train", "+experiment=digits_mlp", "length=3")
    assert [path.name for path in elsewhere.iterdir()] == ["experiments"]
