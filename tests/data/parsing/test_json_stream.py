"""JSON as a stream: the same values and refusals as json, in a small buffer."""

import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wtal.data.files import read_json
from wtal.data.parsing.json_stream import JsonStream
from wtal.errors import FormatError


@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
@given(
    value=st.recursive(
        st.none() | st.floats(allow_nan=False) | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    ),
    cut=st.integers(0, 60),
    put=st.sampled_from(["", ",", "]", "}", '"', "x", "1", " "]),
)
def test_a_stream_reads_and_refuses_what_json_does(chunk, value, cut, put):
    text = json.dumps(value, indent=1)
    assert walk(JsonStream(io.StringIO(text), "it", chunk)) == value
    broken = text[:cut] + put + text[cut + 1 :]
    try:
        wanted = json.loads(broken)
    except ValueError:
        with pytest.raises(FormatError, match=r"^it is not JSON: .* line"):
            walk(JsonStream(io.StringIO(broken), "it", chunk))
    else:
        assert walk(JsonStream(io.StringIO(broken), "it", chunk)) == wanted


@pytest.mark.parametrize("chunk", range(1, 10))
@pytest.mark.parametrize("word", ["-Infinity", "Infinity", "false", "-1.5e+300", '"\\ud83d\\ude00"'])
def test_a_word_may_be_cut_anywhere(word, chunk):
    assert walk(JsonStream(io.StringIO(f"[{word}, {word}]"), "it", chunk)) == [json.loads(word)] * 2
    assert walk(JsonStream(io.StringIO(word), "it", chunk)) == json.loads(word)


def walk(stream):
    def enter():
        if stream.peek() == "{":
            return {key: enter() for key in stream.members()}
        return list(stream.items()) if stream.peek() == "[" else stream.value()

    value = enter()
    stream.end()
    return value


def test_a_stream_holds_a_buffer_and_refuses_a_value_without_end(monkeypatch):
    monkeypatch.setattr("wtal.data.parsing.json_stream.LIMIT", 1000)
    stream = JsonStream(io.StringIO("[" + "[1, 2], " * 10_000 + "0]"), "it", 64)
    assert sum(1 for _ in stream.items()) == 10_001
    assert len(stream._text) < 1000
    with pytest.raises(FormatError, match="a value is longer than"):
        JsonStream(io.StringIO('"' + "a" * 10_000), "it", 64).value()


def test_a_pipe_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(FormatError, match="it is a pipe or a device"):
        read_json(tmp_path / "pipe.json")
    with pytest.raises(FormatError, match="it is a pipe or a device"), JsonStream.open(tmp_path / "pipe.json"):
        pass
