"""Plain English: the worst habits are refused in docstrings, help texts and pages (CONTRIBUTING.md, "English")."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from wtal.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FIRST_WORDS = re.compile(r"(Of|What|How|Whether|As|Where|Whoever|Who)\b")
"""First words of docstrings that begin neither with a verb nor with a noun phrase."""

_UNIT = r"(?:video|class|stream|seed|second|minute|core|pair|shard|snippet|format|layout|dataset|frame|step|thread|row)"
_COUNTED = r"(?:files|folders|frames|videos|pairs|snippets|rows|numbers|values|logits|clips|threads|\d+ ?[kMG]i?B)"
_VERB = (
    r"(?:apolog|binar|capital|categor|character|custom|discret|emphas|factor|final|general|harmon|initial|local|maxim|"
    r"minim|normal|optim|organ|parameter|penal|quant|random|real|recogn|regular|serial|special|stabil|standard|summar|"
    r"synchron|token|util|vector|visual)"
)
HABITS = {
    "per": re.compile(rf"\b(?:an?|one) (?!of\b)[a-z]+ an? {_UNIT}\b|\b{_COUNTED} an? {_UNIT}\b(?! of)"),
    "a sentence with of": re.compile(r"(?:^|[.:;] |\| |\*\*)Of (?!course)"),
    "want of": re.compile(r"\b(?:for|of) want of\b"),
    "told": re.compile(r"\b(?:is|are|be|was|were) told\b|\btold (?:apart|from)\b|\btells? apart\b"),
    "anew": re.compile(r"\banew\b"),
    "beside": re.compile(r"\bbeside\b"),
    "held against": re.compile(r"\bh[eo]ld(?:s|ing)? against\b"),
    "taken up": re.compile(r"\btak(?:en|es) up\b"),
    "one's own": re.compile(r"\bone's own\b"),
    "so many": re.compile(r"\bso (?:many|long)\b(?![^.:;]{0,60}\b(?:as|that)\b)"),
    "surer": re.compile(r"\bsure(?:r|st)\b"),
    "stands": re.compile(r"\bstands? (?:in|on|there|here|beside|below|above)\b"),
    "lies": re.compile(
        r"\blies? (?:there|here|beside|in (?:an?|the|its) (?:same )?(?:file|folder|store|run|workspace))\b"
    ),
    "whoever": re.compile(r"\bwhoever\b", re.IGNORECASE),
    "-ise": re.compile(rf"\b(?:re|un)?{_VERB}is(?:e[dsr]?|ers|ing|able|ations?)\b", re.IGNORECASE),
}
"""Name -> pattern: phrases with a plain word in their place, and nearly no other use."""


def code_rooms() -> list[str]:
    """Folders of Python files, each checked as a whole."""
    inside = sorted(path.parent for path in (ROOT / "wtal").glob("*/__init__.py"))
    return ["wtal", *(str(path.relative_to(ROOT)) for path in inside), "benchmarks", "docs", "experiments", "tests"]


def sources(room: str) -> list[Path]:
    """Python files of a room; those of `wtal` itself without its rooms."""
    return sorted((ROOT / room).glob("*.py") if room == "wtal" else (ROOT / room).rglob("*.py"))


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield place and text of every docstring of a file, and of every string below an assignment."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = getattr(node, "body", ())
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(ast.Constant(str(text))):
                    yield f"{path.relative_to(ROOT)}:{statement.lineno}", text


def prose(text: str) -> str:
    """Return a text without code, generated tables, link targets and the examples of bad English."""
    text = re.sub(r"^<!-- tables: written.*?^<!-- end of tables -->$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^## English$.*?(?=^## )", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "`code`", text))


def habits(text: str) -> list[str]:
    """Return each bad habit in a text, with the phrase."""
    joined = re.sub(r"\n(?=\S)", " ", text) if "\n" in text else text
    return [f"{name}: {found.group()}" for name, pattern in HABITS.items() for found in pattern.finditer(joined)]


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield each command (and option) with its help."""
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        yield name, command.help or ""
        yield name, command.short_help or ""
        for option in command.params:
            if isinstance(option, click.Option):
                yield f"{name} {option.opts[0]}", option.help or ""


@pytest.mark.parametrize("room", code_rooms())
def test_docstrings_begin_with_a_verb_or_a_noun_phrase(room):
    texts = [(place, text) for path in sources(room) for place, text in docstrings(path)]
    assert texts
    assert [f"{place}: {text[:80]}" for place, text in texts if FIRST_WORDS.match(text)] == []


@pytest.mark.parametrize("room", code_rooms())
def test_docstrings_have_no_bad_habits(room):
    texts = [(place, text) for path in sources(room) for place, text in docstrings(path)]
    assert [f"{place}: {habit}" for place, text in texts for habit in habits(prose(text))] == []


def test_help_texts_are_plain():
    assert [f"{place}: {habit}" for place, text in help_texts() for habit in habits(text)] == []
    assert [f"{place}: {text[:80]}" for place, text in help_texts() if FIRST_WORDS.match(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_have_no_bad_habits(page):
    assert habits(prose(page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "It writes a file a video.",
        "A run has one folder a seed.",
        "Videos have 25 frames a second.",
        "The head gives a logit a class.",
        "Of features.",
        "It stops. Of the others nothing is known.",
        "A process ends for want of memory.",
        "What the reader is told.",
        "Files are told apart by name.",
        "The table is written anew.",
        "A table lies beside it.",
        "Numbers are held against the truth.",
        "Verdicts are taken up.",
        "A folder of one's own.",
        "It waits for so many seconds.",
        "Higher means surer.",
        "A row stands in the table.",
        "The file lies in the folder.",
        "Whoever reads it sees the old state.",
        "Rows are normalised; the network is uninitialised.",
        "Normalisation comes last.",
    ],
)
def test_a_bad_habit_is_seen(text):
    assert habits(text) or FIRST_WORDS.match(text)


@pytest.mark.parametrize(
    "text",
    [
        "One file per video, 25 frames per second.",
        "Give each class a score, and show a class in the video.",
        "It takes so long that the queue fills; so many videos fail at once that it stops.",
        "B stands for videos, and the value lies in the interval.",
        "Proposals of a class, seconds of a video, a pair of frames.",
        "The picture stands still; the truth lies between the two.",
        "Offsets are computed twice.",
        "Whatever the order, the result is the same.",
        "Normalized rows, supervised by precise labels; a rise in noise is advised against.",
    ],
)
def test_plain_english_passes(text):
    assert habits(text) == []
    assert not FIRST_WORDS.match(text)


def test_examples_and_code_are_no_prose():
    page = "# Page\n\n```text\nanew\n```\n\n`beside` [here](anew.md)\n\n## English\n\nanew\n\n## Next\n\nend\n"
    assert habits(prose(page)) == []
    assert "end" in prose(page)
