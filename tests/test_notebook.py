"""The notebook runs from top to bottom, and prints correct results."""

import json
import os
import re
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename
from packaging.version import Version

import wtal

NOTEBOOK = Path(wtal.__file__).parents[1] / "docs" / "notebooks" / "wtal.ipynb"


def cells(kind):
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def test_the_notebook_is_tidy():
    code = cells("code")
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    install, *others = code
    assert install["metadata"]["tags"] == ["install"]
    *command, wheel = source(install).split()
    assert command == ["%pip", "install", "-q"]
    assert parse_wheel_filename(wheel)[:2] == ("wtal", Version(wtal.__version__))
    assert f"pipx install {wheel}\n" in (NOTEBOOK.parents[1] / "install.md").read_text(encoding="utf-8")
    for cell in others:
        compile(source(cell), "notebook", "exec")  # plain Python, so that the next test runs all of it
    text = "".join(map(source, cells("markdown")))
    for page in re.findall(r"`(docs/[\w.-]+)`", text):
        assert (NOTEBOOK.parents[2] / page).is_file()


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WTAL_WORKSPACE", raising=False)  # left by commands that other tests ran
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in cells("code")[1:]:
        exec(compile(source(cell), "notebook", "exec"), names)
    assert names["made"].report.is_file()
    assert names["made"].extracted.failures == {}
    assert names["new"].table.is_file()
    assert 0 <= names["judged"].evaluations[0].mAP[0.5] <= 1
    printed = capsys.readouterr()
    assert "extract motion-pyramid: 10 of 10" in printed.out
    assert str(names["made"].report) in printed.out
    assert os.environ.get("WTAL_WORKSPACE") is None
