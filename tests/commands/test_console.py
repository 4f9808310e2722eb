"""Common parts of all commands: progress that survives any id, and devices in plain words."""

import ctypes
import errno
import io
import os
import re

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from wtal.cli import COMMANDS, SECTIONS, main
from wtal.commands import _console
from wtal.commands._console import (
    ConsoleReporter,
)
from wtal.errors import UsageError, WtalError
from wtal.pipeline import devices
from wtal.pipeline.devices import pick_device

ODD = "s[/q/b [red]x :smile: " + "long" * 40


class Clock:
    """Clock whose seconds pass only in the test."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_console.time, "monotonic", clock.monotonic)
    return clock


def test_lines_have_rate_and_time_left(capsys, clock):
    with ConsoleReporter().task("extract", 20, "video") as task:
        for _ in range(20):
            clock.now += 30
            task.advance(note="a")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "extract: 2/20 videos, 0.033 video/s, 0:09:00 left a"
    assert lines[-1] == "extract: 20/20 videos, 0.033 video/s, 0:00:00 left a"


def test_what_an_earlier_call_did_counts_for_no_speed(capsys, clock):
    with ConsoleReporter().task("train", 1000, "step") as task:
        clock.now += 0.5
        task.advance(501)
        for _ in range(99):
            clock.now += 0.5
            task.advance()
    assert capsys.readouterr().err.splitlines() == [
        "train: 501/1000 steps, 2.0 step/s, 0:04:10 left",
        "train: 600/1000 steps, 2.0 step/s, 0:03:20 left",
    ]


def test_ids_with_brackets_are_printed_as_they_are(capsys):
    reporter = ConsoleReporter()
    with reporter.task(ODD, 1, "video") as task:
        task.advance(note=ODD)
    reporter.say(ODD)
    line, said = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{ODD}: 1/1 videos, ")
    assert line.endswith(ODD)
    assert said == ODD


def test_ids_with_brackets_fit_into_a_bar():
    reporter = ConsoleReporter()
    screen = io.StringIO()
    reporter.console = Console(file=screen, force_terminal=True, width=200)
    with reporter.task("extract s[/q/b", 1, "video") as task:
        task.advance(note="t[/q/b")
    shown = re.sub("\x1b[^a-zA-Z]*[a-zA-Z]", "", screen.getvalue())
    assert "extract s[/q/b" in shown
    assert "t[/q/b" in shown
    assert "1/1" in shown


def test_a_task_within_another_has_a_bar_below_its_own():
    reporter = ConsoleReporter()
    screen = io.StringIO()
    reporter.console = Console(file=screen, force_terminal=True, width=200)
    with reporter.task("compare", 2, "row") as rows:
        for name in ("basnet", "rskp"):
            with reporter.task(f"train {name}", 3, "step") as steps:
                steps.advance(3)
            rows.advance(note=name)
        reporter.say("said")
    shown = re.sub("\x1b[^a-zA-Z]*[a-zA-Z]", "", screen.getvalue())
    assert "said" in shown
    last = shown.rstrip().splitlines()[-1]
    assert re.match(r"compare .* 2/2 [\d.]+ row/s 0:00:00 rskp", last)
    assert "train basnet" in shown


def test_tasks_within_another_are_plain_lines_in_logs(capsys, clock):
    reporter = ConsoleReporter()
    with reporter.task("compare", 2, "row") as rows:
        for name in ("basnet", "rskp"):
            with reporter.task(f"train {name}", 1, "step") as steps:
                clock.now += 10
                steps.advance()
            rows.advance(note=name)
    assert capsys.readouterr().err.splitlines() == [
        "train basnet: 1/1 steps, 0.100 step/s, 0:00:00 left",
        "compare: 1/2 rows, 0.100 row/s, 0:00:10 left basnet",
        "train rskp: 1/1 steps, 0.100 step/s, 0:00:00 left",
        "compare: 2/2 rows, 0.100 row/s, 0:00:00 left rskp",
    ]


@pytest.mark.parametrize("wanted", ["banana", "cuda:x", "cuda:", "cuda:-1", "mps", "CPU", "", "cuda:\u0663"])
def test_devices_that_are_none_are_refused_in_one_line(wanted):
    with pytest.raises(UsageError, match=r"^--device takes auto, cpu, cuda or cuda:N, got '"):
        pick_device(wanted)


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device(name) for name in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda", "cpu", "cuda", "cuda:1"]
    with pytest.raises(WtalError, match="--device cuda:7: the CUDA devices here are cuda:0 to cuda:1"):
        pick_device("cuda:7")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [pick_device(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    for has_driver in (True, False):
        monkeypatch.setattr(devices, "_has_driver", lambda has_driver=has_driver: has_driver)
        with pytest.raises(WtalError, match="torch sees no CUDA device here"):
            pick_device("cuda:0")


def test_only_a_machine_with_a_driver_is_asked_for_its_devices(monkeypatch):
    """Whatever torch sees, the answer without it is the same: a CUDA device has a driver."""
    assert devices._has_driver() or not torch.cuda.is_available()
    loaded = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    assert devices._has_driver()
    assert len(loaded) == 1


@pytest.mark.parametrize(("command", "several"), [("extract", True), ("train", False)])
def test_help_names_several_devices_where_they_may_be(command, several):
    words = " ".join(CliRunner().invoke(main, [command, "--help"]).stdout.split())
    assert ("cuda:0,cuda:1" in words) == several


def test_too_little_memory_is_one_line():
    def fill():
        raise MemoryError("Unable to allocate 55 GiB")

    result = CliRunner().invoke(_console.Command("fill", callback=fill))
    assert (result.exit_code, result.stderr) == (1, "wtal: there is not enough memory: Unable to allocate 55 GiB\n")


def test_a_disk_without_room_for_a_folder_is_one_line_too(tmp_path):
    def make():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "not" / "there"))

    result = CliRunner().invoke(_console.Command("make", callback=make))
    assert result.exit_code == 1
    assert re.fullmatch(
        rf"wtal: cannot write {tmp_path}/not/there: No space left on device; [\d,]+ are free there; make room .*\n",
        result.stderr,
    )


def test_commands_are_grouped_in_the_help():
    text = CliRunner().invoke(main, ["--help"], terminal_width=100).stdout
    for title, commands in SECTIONS.items():
        section = text.partition(f"\n{title}:\n")[2].partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in section] == list(commands)
        assert [line.strip().partition("  ")[2].strip() for line in section] == list(commands.values())
    assert list(SECTIONS) == ["Start here", "Data", "Train and detect", "Judge", "Use", "Inspect"]
    assert len(COMMANDS) == sum(map(len, SECTIONS.values()))


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("train", "train.steps=500"),
        ("run", "train.steps=500"),
        ("compare", "train.steps=500"),
        ("detect", "localize.nms_tiou=0.4"),
        ("tune", "localize.nms_tiou=0.4"),
        ("ensemble", "localize.nms_tiou=0.4"),
    ],
)
def test_the_help_of_set_names_what_the_command_takes(command, example):
    text = " ".join(CliRunner().invoke(main, [command, "--help"]).stdout.split())
    assert re.findall(r"e\.g\. (\S+=\S+);", text.partition("--set ")[2]) == [example]
