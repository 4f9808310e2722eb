"""JSON5 by LosslessCut and by people, and refusals in one line."""

import pytest

from wtal.data.programs.json5 import read_json5
from wtal.errors import FormatError


def read(tmp_path, text):
    path = tmp_path / "a.llc"
    path.write_text(text, encoding="utf-8")
    return read_json5(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: 1, 'b': \"c\", $d_1: [1, 2,],}", {"a": 1, "b": "c", "$d_1": [1, 2]}),
        ("// first\n{/* { */ a: .5, b: 5., c: +1.5e2, d: -.25}", {"a": 0.5, "b": 5, "c": 150.0, "d": -0.25}),
        (r"'it\'s \x41\u0042 \q \" end'", "it's AB q \" end"),
        ("'two\\\nlines'", "twolines"),
        ("{true: null, x: false}", {"true": None, "x": False}),
        ('{"plain": [1, -2.5e-3, "\\u00e9"]}', {"plain": [1, -0.0025, "é"]}),
    ],
)
def test_what_json5_allows(tmp_path, text, value):
    assert read(tmp_path, text) == value


@pytest.mark.parametrize(
    "text", ["", "{a: b}", "{a: 0x10}", "[1,,2]", "{a: 1, a: 2}", "'open", "{a 1}", "[" * 100_000, "/* open", "[1}"]
)
def test_what_is_none_is_one_line(tmp_path, text):
    with pytest.raises(FormatError, match="JSON5") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
