"""The commands as functions: their examples run, they print nothing, and their defaults are the commands'."""

import doctest
import inspect
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import click
import pytest

import wtal
from wtal import api
from wtal.cli import main
from wtal.config import assignments_of
from wtal.data.segments import Detection
from wtal.errors import ConfigError, OverrideError, UsageError, WtalError
from wtal.extractors.demo.video import render_collection
from wtal.extractors.execution.config import ExtractConfig
from wtal.pipeline.devices import AUTOMATIC
from wtal.pipeline.runs import open_run
from wtal.pipeline.workspace import Workspace

FUNCTIONS = ("extract", "train", "run", "detect", "evaluate", "load", "open_store")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with four of the demo's videos and their annotations; the working directory of the tests here."""
    folder = tmp_path_factory.mktemp("api")
    render_collection(folder, {"training": 4})
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def examples(place):
    """Results of the docstrings' examples, run one after the other as written in the file."""
    names = {"wtal": wtal}
    found = [test for test in doctest.DocTestFinder().find(api, globs=names) if test.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in sorted(found, key=lambda test: test.lineno):
        test.globs = names
        runner.run(test, clear_globs=False)
    assert len(found) == len(FUNCTIONS)
    return runner, names


def test_the_examples_say_what_comes(examples):
    runner, _ = examples
    assert runner.failures == 0
    assert runner.tries > 10


def test_a_second_call_uses_what_is_there_tells_its_progress_and_prints_nothing(examples, place, capfd, caplog):
    _, names = examples
    told = []
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.suffix in (".npy", ".pt")}
    settings = {"head": {"name": "basnet"}, "train": {"steps": 3}}
    with caplog.at_level(logging.INFO, logger="wtal"):
        (run,) = wtal.train(annotations="annotations.json", workspace=Path("workspace"), settings=settings)
        wtal.extract(iter(["videos"]), fps="5", workspace="workspace", progress=lambda *state: told.append(state))
    assert run.folder == names["run"].folder
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert told == [("extract motion-pyramid", 0, 0)]
    assert f"{run.folder} is already trained" in caplog.messages
    assert "4 of 4 videos are already in" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_progress_counts_to_the_end(examples, place):
    _, names = examples
    told = []
    video = "videos/training_02.mp4"
    made = wtal.detect(names["run"], [video], workspace="workspace", progress=lambda *state: told.append(state))
    assert told == [("extract motion-pyramid", 0, 1), ("extract motion-pyramid", 1, 1)]
    detections = made.results["training_02"]
    assert [type(found) for found in detections] == [Detection] * len(detections)
    assert detections == wtal.load(names["run"].folder).detect(video)


def test_functions_and_commands_leave_the_same_behind(examples, place, monkeypatch):
    _, names = examples
    monkeypatch.setenv("WTAL_WORKSPACE", "elsewhere")
    found = wtal.detect(workspace="workspace", model=names["run"].folder)
    assert found.file == open_run(names["run"].folder).detections()
    assert found.stores == (Workspace(Path("workspace")).only_store(),)
    assert os.environ["WTAL_WORKSPACE"] == "elsewhere"
    judged = wtal.evaluate(names["run"], subset="training")
    assert judged.to_json()["mAP"] == wtal.evaluate(names["run"].folder, subset="training").value["mAP"]
    recall = wtal.evaluate(names["run"], task="proposals", subset="training")
    assert 0 <= recall.figures.rows["AR"]["area"] <= 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: wtal.run("videos"), UsageError, "pass either annotations or labels"),
        (lambda: wtal.run("videos", labels="l", annotations="a"), UsageError, "pass either annotations or labels"),
        (lambda: wtal.extract("nowhere"), UsageError, "nowhere"),
        (lambda: wtal.extract("videos", fsp=5), OverrideError, "unknown key 'fsp'; did you mean 'fps'"),
        (lambda: wtal.extract("videos", fps=-1), OverrideError, "a number or fraction above 0"),
        (lambda: wtal.extract("videos", fps=None), OverrideError, "wanted a number or a fraction, got None"),
        (lambda: wtal.extract("videos", device="gpu"), UsageError, "got 'gpu'"),
        (lambda: wtal.train("no-such"), ConfigError, "there is no recipe 'no-such'"),
        (lambda: wtal.train(seeds=[1, 1]), UsageError, r"different whole numbers .*got \[1, 1\]"),
        (lambda: wtal.train(seeds=[]), UsageError, "got "),
        (lambda: wtal.train(seeds="0"), UsageError, "got '0'"),
        (lambda: wtal.train(seeds=-1), UsageError, "got -1"),
        (lambda: wtal.train(settings={"train": {"stpes": 3}}), OverrideError, "did you mean 'train.steps'"),
        (
            lambda: wtal.train(settings={"train.steps": None}),
            UsageError,
            "a list or a dictionary, got train.steps=None",
        ),
        (lambda: wtal.train(settings={"train.rate": float("nan")}), UsageError, "got train.rate=nan"),
        (
            lambda: wtal.train(workspace="empty"),
            UsageError,
            "empty does not exist, so there is no feature store; run `wtal extract` first",
        ),
        (lambda: wtal.detect(workspace="empty"), UsageError, "holds no finished run"),
        (lambda: wtal.detect("run", out="x"), UsageError, "for new videos"),
        (lambda: wtal.detect("run", "videos", stage=1), UsageError, "the run's own store"),
        (lambda: wtal.evaluate("nowhere.json"), UsageError, "nowhere.json does not exist"),
        (lambda: wtal.evaluate("x", task="speed"), UsageError, "got 'speed'"),
        (lambda: wtal.open_store("nowhere"), WtalError, "nowhere"),
        (lambda: wtal.load("nowhere"), UsageError, "nowhere does not exist"),
    ],
)
def test_a_wrong_call_is_refused_in_the_words_of_the_commands(call, error, message, place):
    with pytest.raises(error, match=message):
        call()
    assert not (place / "empty").exists()


@pytest.mark.parametrize(
    ("settings", "assignments"),
    [
        (None, []),
        ({"train": {"steps": 5, "rate": 1e-05}}, ["train.steps=5", "train.rate=1e-05"]),
        ({"localize.preset": Path("a b.toml")}, ['localize.preset="a b.toml"']),
        ({"extract": {"streams": ["rgb", "flow"]}}, ['extract.streams=["rgb", "flow"]']),
        ({"head": {"authors": True, "name": 'é"\n'}}, ["head.authors=true", 'head.name="é\\"\\n"']),
    ],
)
def test_settings_are_what_set_takes(settings, assignments):
    assert assignments_of(settings) == assignments


def test_the_settings_of_extraction_are_those_of_a_recipe():
    assert set(get_type_hints(api.ExtractSettings)) == set(ExtractConfig.model_fields)


CALLS = {"extract": ["videos"], "train": [], "run": ["videos"], "detect": [], "evaluate": ["run"]}


@pytest.mark.parametrize("name", CALLS)
def test_defaults_are_those_of_the_command(name, monkeypatch):
    """An option that a function has too has the same default there."""
    monkeypatch.setenv("WTAL_WORKSPACE", "workspace")  # put back afterwards: parsing sets it
    parsed = main.get_command(click.Context(main), name).make_context(name, CALLS[name]).params
    parameters = inspect.signature(getattr(api, name)).parameters
    shared = [key for key in parsed if key in parameters and key not in ("workspace", "videos", "source")]
    assert len(shared) >= 3
    for key in shared:
        default = parameters[key].default
        default = AUTOMATIC if (key, default) == ("jobs", "auto") else default
        assert str(default) == str(parsed[key]) or (not default and not parsed[key]), key


@pytest.mark.parametrize("jobs", ["atuo", 0, 1.5, None, True])
def test_a_wrong_number_of_jobs_is_a_usage_error(jobs, tmp_path):
    with pytest.raises(UsageError, match="jobs: wanted 'auto' or a number from 1 to 1024"):
        wtal.extract(tmp_path, jobs=jobs, workspace=tmp_path)


def test_every_function_is_there_lazily_and_documented():
    assert set(wtal.__all__) == {"__version__", *FUNCTIONS}
    assert set(FUNCTIONS) < set(dir(wtal))
    for name in FUNCTIONS:
        function = getattr(wtal, name)
        assert function is getattr(api, name)
        assert "Raises:" in function.__doc__
        assert ">>> " in function.__doc__
    with pytest.raises(AttributeError, match="no attribute 'exctract'"):
        wtal.exctract  # noqa: B018


def test_the_version_is_that_of_the_package(monkeypatch):
    from importlib import metadata

    assert wtal.__version__ == metadata.version("wtal")

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert wtal.__version__ == "0+unknown"


CLIENT = """
from pathlib import Path
import wtal
from wtal.data.segments import Detection

made = wtal.extract("videos", fps=25, streams=["rgb"], progress=lambda stage, done, total: None)
failures: dict[str, str] = made.failures
run = wtal.train(settings={"train": {"steps": 5}}, seeds=range(3))[0]
best: list[Detection] = wtal.load(run.folder).detect(Path("video.mp4"))
found = wtal.detect(run, ["video.mp4"])
first: Detection = found.results["video"][0]
figure: float = wtal.evaluate(run).evaluations[0].mAP[0.5]
recall = wtal.evaluate(run, task="proposals").to_json()
width: int = wtal.open_store().dims["rgb"]
whole = wtal.run("videos", labels="labels.csv", quick=True)
page: Path | None = whole.report
version: str = wtal.__version__
"""
TYPING = """
[mypy]
strict = True
[mypy-wtal.*]
follow_imports = silent
[mypy-torch.*,torchvision.*,cv2.*,av.*,numba.*,pydantic.*]
follow_imports = skip
"""
"""Settings of mypy: only the client's own errors count, as for a package among the installed ones; the libraries that
take longest to read have no part in the signatures."""
MISTAKES = """
import wtal

wtal.extract("videos", fsp=5)
wtal.extract("videos", tail="drip")
wtal.run("videos", labels=3)
wtal.train().folder
wtal.detect("run").results["video"][0].strat
wtal.evaluate("x", task="proposals").evaluations
wtal.exctract("videos")
"""


@pytest.mark.slow
def test_a_typed_client_sees_the_signatures(tmp_path):
    (tmp_path / "mypy.ini").write_text(TYPING)

    def checked(code: str) -> tuple[int, list[str]]:
        (tmp_path / "client.py").write_text(code)
        command = [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", "cache"]
        path = {**os.environ, "MYPYPATH": str(Path(wtal.__file__).parents[1])}
        done = subprocess.run(
            [*command, "client.py"], capture_output=True, text=True, check=False, cwd=tmp_path, env=path
        )
        return done.returncode, done.stdout.splitlines()

    assert checked(CLIENT) == (0, [])
    code, lines = checked(MISTAKES)
    assert code == 1
    of_client = {line.split(":")[1] for line in lines if line.startswith("client.py") and ": error:" in line}
    assert of_client == {"4", "5", "6", "7", "8", "9", "10"}, lines
