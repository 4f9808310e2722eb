"""Information in a file of detections on its own origin."""

import json

import pytest

from wtal.data.detections import read_made


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
