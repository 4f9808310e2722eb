"""Completion in shells: scripts that they take, names that fit, and no torch behind a tabulator key."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from wtal.cli import COMMANDS, main
from wtal.commands.completion import SHELLS
from wtal.extractors.backbones import BACKBONES
from wtal.models.heads import HEADS
from wtal.pipeline.inspection.inventory import KINDS
from wtal.pipeline.recipe import recipe_names


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    root = tmp_path / "workspace"
    for folder in ("runs/basnet-one", "runs/rskp-two", "features/store-a", "annotations"):
        (root / folder).mkdir(parents=True)
    (root / "annotations" / "labels.csv").touch()
    (root / "runs" / ".lock").touch()
    monkeypatch.setenv("WTAL_WORKSPACE", str(root))
    return root


def completed(*words):
    """Completions of the last word, except files."""
    items = ShellComplete(main, {}, "wtal", "_WTAL_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [item.value for item in items if item.type == "plain"]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_those_that_the_help_names(shell):
    script = CliRunner().invoke(main, ["completion", shell])
    assert script.exit_code == 0, script.output
    assert f"_WTAL_COMPLETE={shell}_complete" in script.stdout
    assert f"wtal completion {shell}" in CliRunner().invoke(main, ["completion", "--help"]).stdout
    if shutil.which(shell):
        flag = "--no-execute" if shell == "fish" else "-n"
        checked = subprocess.run([shell, flag], input=script.stdout, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_fish_keeps_what_follows_a_comma():
    """Each line of the answer is a type, a comma and a name, which may have commas itself, as in csv,srt."""
    script = CliRunner().invoke(main, ["completion", "fish"]).stdout
    assert re.findall(r"string split .*;", script) == ['string split --max 1 "," $completion);']
    asked = {"_WTAL_COMPLETE": "fish_complete", "COMP_WORDS": "wtal export RUN --to csv,sr", "COMP_CWORD": "csv,sr"}
    code = "from wtal.cli import main; main(prog_name='wtal')"
    answered = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert answered.stdout.splitlines() == ["plain,csv,srt"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("",), list(COMMANDS)),
        (("ref",), ["refine"]),
        (("--v",), ["--version"]),
        (("review", ""), ["annotations", "import", "next", "show"]),
        (("list", ""), list(KINDS)),
        (("run", "--head", ""), HEADS.names()),
        (("run", "--backbone", "i3"), [name for name in BACKBONES.names() if name.startswith("i3")]),
        (("train", "thumos14/rs"), ["thumos14/rskp"]),
        (("compare", "thumos14/rskp", "kth/"), [name for name in recipe_names() if name.startswith("kth/")]),
        (("export", "RUN", "--to", "csv,sr"), ["csv,srt"]),
        (("train", "--seed"), ["--seeds"]),
        (("evaluate", "RUN", "--protocol", "snippet-b"), ["snippet-best"]),
        (("trainn", "x"), []),
    ],
)
def test_names_that_fit_are_offered(words, names):
    assert completed(*words) == names


def test_a_workspace_offers_what_it_holds_by_name_and_by_path(workspace):
    runs = [str(workspace / "runs" / name) for name in ("basnet-one", "rskp-two")]
    assert completed("detect", "") == runs
    assert completed("detect", "rskp") == runs[1:]
    assert completed("evaluate", f"{workspace}/runs/b") == runs[:1]
    assert completed("train", "--store", "st") == [str(workspace / "features" / "store-a")]
    assert completed("train", "--annotations", "lab") == [str(workspace / "annotations" / "labels.csv")]
    assert completed("detect", "--workspace", "elsewhere", "") == []


def test_files_are_offered_beside_what_the_workspace_holds(workspace):
    items = ShellComplete(main, {}, "wtal", "_WTAL_COMPLETE").get_completions(["detect"], "")
    assert [item.type for item in items] == ["file", "plain", "plain"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(tmp_path, workspace):
    program = tmp_path / "wtal"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m wtal "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(wtal completion bash)"; compopt() { :; }; COMP_WORDS=(wtal detect bas); COMP_CWORD=2; '
        '_wtal_completion wtal; echo "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == (f"{workspace}/runs/basnet-one\n", "")


def test_no_completion_waits_for_torch():
    code = (
        "import sys\nfrom click.shell_completion import ShellComplete\nfrom wtal.cli import COMMANDS, main\n"
        "complete = ShellComplete(main, {}, 'wtal', '_WTAL_COMPLETE').get_completions\n"
        "assert complete([], '')\nassert 'rich' not in sys.modules\n"
        "for name in COMMANDS:\n    assert complete([name], '--')\n    complete([name], '')\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
