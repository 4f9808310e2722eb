"""Types of the command line: seconds as numbers and clock times, in every option that takes them; jobs."""

import click
import pytest
from click.testing import CliRunner

from wtal.cli import COMMANDS, main
from wtal.commands._types import AutomaticJobs, Seconds
from wtal.data.assemble import read_ambiguous
from wtal.data.segments import Segment
from wtal.pipeline.devices import AUTOMATIC


def options(command):
    for param in command.params:
        yield command, param
    for below in getattr(command, "commands", {}).values():
        yield from options(below)


EVERY = [pair for name in COMMANDS for pair in options(main.get_command(None, name))]


def test_every_option_in_seconds_takes_clock_times():
    told = {param.opts[0] for _, param in EVERY if (param.metavar or "") == "SECONDS"}
    assert told == {"--time-limit", "--interval", "--settle", "--merge", "--pad"}
    assert {param.opts[0] for _, param in EVERY if isinstance(param.type, Seconds)} == told


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("63.5", 63.5), ("1e2", 100), ("1:03.5", 63.5), ("0:01:03.5", 63.5), ("1:02:03", 3723),
    ],
)  # fmt: skip
def test_seconds_are_numbers_or_clock_times(text, seconds):
    assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["1:60", "1:2:3:4", ":30", "1:", "1:-3", "-1:03", "1:3x", "1:03,5"])
def test_wrong_clock_times_are_refused_in_one_line(text):
    with pytest.raises(
        click.BadParameter, match=r"is not a clock time; write seconds, or a time such as 1:03\.5 or 1:02:03"
    ):
        Seconds().convert(text, None, None)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "x", "", "99999:00:00"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(click.BadParameter):
        Seconds().convert(text, None, None)


def test_a_refusal_names_the_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(main, ["export", "x", "--to", "csv", "--pad", "1:0x"])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("wtal: --pad: '1:0x' is not a clock time; ")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_range_in_a_help_text_has_bounds(name):
    for command, param in options(main.get_command(None, name)):
        if isinstance(param, click.Option):
            _, text = param.get_help_record(click.Context(command)) or ("", "")
            assert "None" not in text


def test_ambiguous_ranges_are_read_as_clock_times(tmp_path):
    (tmp_path / "ranges.txt").write_text("a 63.5 1:10\nb 0:59 1:00:00.5\n")
    assert read_ambiguous(tmp_path / "ranges.txt") == {"a": [Segment(63.5, 70)], "b": [Segment(59, 3600.5)]}


def test_jobs_are_a_number_or_left_to_the_machine():
    jobs = AutomaticJobs()
    assert [jobs.convert(value, None, None) for value in ("auto", "3", AUTOMATIC)] == [AUTOMATIC, 3, AUTOMATIC]
    for wrong in ("0", "-1", "many"):
        with pytest.raises(click.BadParameter):
            jobs.convert(wrong, None, None)
