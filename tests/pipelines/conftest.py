import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("pipelines_project", Path(__file__).with_name("project.py"))
project_module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(project_module)


@pytest.fixture
def project(tmp_path, monkeypatch):
    return project_module.Project(tmp_path, monkeypatch)
