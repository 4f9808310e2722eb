"""Information in a file of detections on its own origin."""

import json

import pytest

from wtal.data.detections import read_detections, read_made
from wtal.data.verdicts import read_verdicts
from wtal.errors import FormatError


@pytest.mark.parametrize("form", ["at the end", "first", "spaced", "UTF-16"])
def test_what_a_file_says_of_itself_is_read_wherever_it_stands(tmp_path, form):
    made, results = {"tuned_with_segments": True, "weights": {"rgb": "random:3"}}, {"results": {"a": []}}
    content = {"wtal": made, **results} if form == "first" else {**results, "wtal": made}
    text = json.dumps(content, separators=(",", " : ") if form == "spaced" else None)
    path = tmp_path / "found.json"
    path.write_text(text, encoding="utf-16" if form == "UTF-16" else "utf-8")
    assert read_made(path) == made
    path.write_text('{"results": {"wtal": []}}')
    assert read_made(path) == {}


@pytest.mark.parametrize("form", ["at the end", "first"])
@pytest.mark.parametrize("begins", [None, [], 3, "x", {"a": None}, {"a": "1"}, {"a": True}, {"a": [[[]]]}], ids=str)
def test_seconds_of_first_frames_are_numbers(tmp_path, begins, form):
    made, results = {"wtal": {"begins": begins}}, {"results": {"a": []}}
    path = tmp_path / "found.json"
    path.write_text(json.dumps({**made, **results} if form == "first" else {**results, **made}))
    with pytest.raises(FormatError, match=r"found.json: wtal.begins must be an object of video and second, got"):
        read_made(path)


@pytest.mark.parametrize("inner", ["[" * 20_000 + "]" * 20_000, '{"x":' * 10_500 + "1" + "}" * 10_500], ids=len)
@pytest.mark.parametrize("key", ["begins", "localize"])
def test_an_origin_that_is_nested_too_deeply_is_refused(tmp_path, key, inner):
    path = tmp_path / "found.json"
    path.write_text(f'{{"results": {{}}, "wtal": {{"{key}": {inner}}}}}')
    with pytest.raises(FormatError, match=r"found.json: wtal is nested too deeply; detect again"):
        read_made(path)


@pytest.mark.parametrize("half", ["\ud800x", "x\udfff", "\udc00\ud800"], ids=ascii)
@pytest.mark.parametrize("place", ["video", "label"])
def test_half_a_character_is_refused_as_in_verdicts(tmp_path, half, place):
    video, label = (half, "run") if place == "video" else ("b", half)
    good = {"label": "run", "score": 0.5, "segment": [0.0, 1.0]}
    path = tmp_path / "detections.json"
    path.write_text(json.dumps({"results": {"a": [good], video: [good, {**good, "label": label}]}}))
    with pytest.raises(FormatError, match=r"cannot be used: a string has an unpaired surrogate \\ud") as refused:
        read_detections(path)
    path.write_text(json.dumps({"format": 1, "verdicts": [], "looked_at": [half]}))
    with pytest.raises(FormatError) as wanted:
        read_verdicts(path)
    assert str(wanted.value).startswith(str(refused.value))


def test_a_whole_character_beyond_16_bits_may_be_written_as_two_halves(tmp_path):
    path = tmp_path / "detections.json"
    path.write_text('{"results": {"\\ud83d\\ude00": [{"label": "\\ud83d\\ude00", "score": 1, "segment": [0, 1]}]}}')
    assert [own[0].label for own in read_detections(path).values()] == ["\U0001f600"]
