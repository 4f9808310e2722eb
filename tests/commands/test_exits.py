"""Exit of commands with closed or full streams, with little memory, and under strict warnings."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from wtal.cli import main
from wtal.commands import _console
from wtal.data.files import write_json
from wtal.errors import WtalError

WTAL = f"{sys.executable} -m wtal"


def shell(command):
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


@pytest.fixture
def file(tmp_path):
    segments = [{"label": "run", "segment": [0, 1]}]
    videos = {f"video-{number}": {"subset": "training", "annotations": segments} for number in range(2000)}
    return write_json(tmp_path / "a.json", {"database": videos})


@pytest.mark.parametrize("command", ["--help", "--version", "list protocols", "list recipes --json"])
def test_a_full_stdout_is_one_line(command):
    ended = shell(f"{WTAL} {command} > /dev/full")
    assert ended.returncode == 1
    assert ended.stderr == "wtal: No space left on device: standard output\n"


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_is_written_nowhere(closed, file):
    ended = shell(f"{WTAL} show {file} --json {closed}")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_reader_that_has_had_enough_is_no_error():
    ended = shell(f"{WTAL} list recipes --json | head -1; echo ${{PIPESTATUS[0]}}")
    assert (ended.stdout, ended.stderr) == ("{\n0\n", "")


def test_a_full_stderr_keeps_the_exit_code():
    assert shell(f"{WTAL} show nothing 2> /dev/full").returncode == 2


def test_warnings_of_libraries_are_no_errors(file):
    ended = shell(f"PYTHONWARNINGS=error {WTAL} show {file}")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("command", ["list heads", "doctor"])
def test_too_few_addresses_are_one_line(command):
    ended = shell(f"ulimit -v 500000; {WTAL} {command}")
    assert ended.returncode == 1
    assert ended.stderr.startswith("wtal: there is not enough memory: torch needs 640 MiB")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nto"),
            "DefaultCPUAllocator: can't allocate",
        ),
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "libtorch.so: failed to map"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried"), "CUDA out of memory. Tried"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_libraries_without_memory_are_one_line(error, line):
    def fill():
        raise error

    result = CliRunner().invoke(_console.Command("fill", callback=fill))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"wtal: there is not enough memory: {line}")
    assert len(result.stderr.splitlines()) == 1


def test_other_errors_of_a_library_keep_their_traceback():
    def fail():
        raise RuntimeError("an error of ours")

    assert isinstance(CliRunner().invoke(_console.Command("fail", callback=fail)).exception, RuntimeError)


def test_halves_of_characters_are_printed_as_escapes(tmp_path):
    entry = {"label": "a", "score": 0.5, "segment": [0, 1]}
    found = write_json(tmp_path / "found\udcff.json", {"results": {"video": [entry]}})
    result = CliRunner().invoke(main, ["show", str(found)])
    assert result.exit_code == 0, result.output
    assert "found\\udcff.json" in result.stdout


@pytest.mark.parametrize(
    "command", ["evaluate {} --annotations {} --subset training", "export {} --to csv", "clips {} --videos . --out o"]
)
def test_halves_of_characters_in_detections_are_refused(tmp_path, command, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    entry = {"label": "a\ud800", "score": 0.5, "segment": [0, 1]}
    found = write_json(tmp_path / "found.json", {"results": {"video": [entry]}})
    before = set(tmp_path.rglob("*"))
    result = CliRunner().invoke(main, command.format(found, file).split())
    assert result.exit_code == 1, result.output
    assert "cannot be used: a string has an unpaired surrogate \\ud800" in result.stderr.splitlines()[-1]
    assert set(tmp_path.rglob("*")) == before


NUMBERS = ("nan", "inf", "-inf", "1e400", "-1", "99999999999999999999", "x")


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "command",
    [
        "train --seeds {}",
        "train --seeds 0,{}",
        "train --dry-run --set train.batch_size={}",
        "compare kth/basnet --set train.batch_size={}",
        "train --dry-run --set head.name=basnet --set head.width={}",
        "run videos --labels l.csv --dry-run --set localize.upsample={}",
        "run videos --labels l.csv --dry-run --set extract.fps={}",
        "run videos --labels l.csv --set extract.fps={}",
        "run videos --labels l.csv --jobs {}",
        "extract videos --time-limit {}",
        "extract videos --jobs {}",
        "extract videos --decoders {}",
        "extract videos --fps {}",
        "extract videos --stride {}",
        "detect m.wtal --watch . --interval {}",
        "detect m.wtal --watch . --settle {}",
        "detect m.wtal video.mp4 --jobs {}",
        "evaluate d.json --seed {}",
        "evaluate d.json --draws {}",
        "diagnose d.json --at {}",
        "export d.json --to csv --pad {}",
        "export d.json --to csv --merge {}",
        "ensemble a b --weights 1,{}",
        "import-features . --dims rgb={}",
        "import-features . --fps {} --stride 16",
        "demo --seeds {} --device banana",
    ],
)
def test_a_number_that_is_none_is_a_wrong_call(command, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [part.replace("{}", number) for part in command.split(" ")])
    assert result.exit_code == 2, f"{result.output}{result.exception!r}"
    assert len([line for line in result.stderr.splitlines() if line.startswith("wtal: ")]) == 1
    assert [*Path().iterdir()] == []


def test_a_step_of_more_videos_than_anybody_trains_is_a_wrong_call():
    call = ["train", "--dry-run", "--set"]
    assert CliRunner().invoke(main, [*call, "train.batch_size=65536"]).exit_code == 0
    result = CliRunner().invoke(main, [*call, "train.batch_size=65537"])
    assert result.exit_code == 2
    assert "train.batch_size: wanted a whole number from 1 to 65536, got 65537" in result.stderr


def test_an_error_of_the_recipe_is_not_blamed_on_the_call(tmp_path):
    recipe = tmp_path / "own.toml"
    recipe.write_text("[train]\nstep = 5\n")
    result = CliRunner().invoke(main, ["train", str(recipe), "--dry-run", "--set", "train.batch_size=2"])
    assert result.exit_code == 1
    assert "own.toml: unknown key 'train.step'" in result.stderr


def test_a_width_that_no_memory_holds_is_one_line():
    command = click.Command("wide", callback=lambda: __import__("torch").empty(2**31 - 1, 2**31 - 1))
    result = CliRunner().invoke(_console.Command("wide", callback=command.callback))
    assert result.exit_code == 1, repr(result.exception)
    assert result.stderr.startswith("wtal: there is not enough memory: ")


def test_errors_of_ours_keep_their_code():
    def fail():
        raise WtalError("no")

    assert CliRunner().invoke(_console.Command("fail", callback=fail)).exit_code == 1


def test_a_number_beyond_float32_is_refused_before_training():
    result = CliRunner().invoke(main, ["train", "--dry-run", "--set", "train.weight_decay=1e308"])
    assert result.exit_code == 2, repr(result.exception)
    assert "wanted a number between -1e+30 and 1e+30, got " in result.stderr


def test_a_command_ends_without_a_search_for_cycles():
    ring = "class Ring: __del__ = lambda self: print('collected', flush=True)\nring = Ring(); ring.own = ring"
    call = "import sys; sys.argv = ['wtal', '--version']; from wtal.cli import main; main()"
    for code, collected in ((ring, True), (f"{ring}\n{call}", False)):
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ("collected" in ended.stdout) == collected
