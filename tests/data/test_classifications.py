"""Files of video-level scores."""

import json

import pytest

from wtal.data.classifications import holds_classifications, read_classifications
from wtal.errors import FormatError


def test_classification_files_are_read(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"results": {"a": [{"label": "run", "score": 1}, {"label": "run", "score": 0.5}]}}))
    assert holds_classifications(path)
    assert read_classifications(path) == {"a": {"run": 1.0}}
    for entry, message in (
        ({"label": "run", "score": 1, "segment": [0, 1]}, "without a segment"),
        ({"label": 3, "score": 1}, r"results\.a\[0\]\.label: wanted a string"),
        ({"label": "run", "score": "1"}, r"\.score: wanted a finite number"),
    ):
        path.write_text(json.dumps({"results": {"a": [entry]}}))
        with pytest.raises(FormatError, match=message):
            read_classifications(path)
