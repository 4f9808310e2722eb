"""BORIS projects and aggregated events as annotations: codes are labels, and their times only judge."""

import json

import pytest

from wtal.data.annotations import guess_format, read_annotations
from wtal.data.segments import Annotation
from wtal.errors import FormatError


def observation(*events, media="/somewhere/a b.mp4", **others):
    about = {"length": {media: 12.5}}
    return {"file": {"1": [media], "2": []}, "media_info": about, "time offset": 0.0, "events": list(events), **others}


def project(tmp_path, **observations):
    behaviours = {"0": {"type": "State event", "code": "run"}, "1": {"type": "Point event", "code": "bark"}}
    content = {"project_format_version": "7.0", "behaviors_conf": behaviours, "observations": observations}
    path = tmp_path / "p.boris"
    path.write_text(json.dumps(content))
    return path


def row(time, code, subject="", modifier=""):
    return [time, subject, code, modifier, "", "NA"]


def test_states_are_segments_and_points_are_labels(tmp_path):
    path = project(
        tmp_path,
        one=observation(row(4.0, "run"), row(1.5, "run"), row(2.0, "bark"), row(9.0, "run")),
        two=observation(
            row(1.0, "run", "dog"),
            row(2.0, "run", "cat"),
            row(3.0, "run", "dog"),
            row(5.0, "run", "cat"),
            media="b.mp4",
        ),
        uncoded=observation(media="c.mp4"),
    )
    assert guess_format(path) == "boris"
    dataset = read_annotations(path)
    assert dataset.classes == ("bark", "run")
    assert set(dataset.videos) == {"a b", "b"}
    first = dataset.videos["a b"]
    assert first.labels == ("bark", "run")
    assert first.annotations == (Annotation(1.5, 4.0, "run"),)
    assert first.duration == 12.5
    assert dataset.videos["b"].annotations == (Annotation(1.0, 3.0, "run"), Annotation(2.0, 5.0, "run"))
    assert dataset.subsets == {"training": 2}
    notes = " ".join(dataset.notes)
    assert "unpaired" in notes
    assert "uncoded" in notes


def test_aggregated_events(tmp_path):
    path = tmp_path / "events.tsv"
    head = "Observation id\tMedia file name\tMedia duration (s)\tBehavior\tBehavior type\tStart (s)\tStop (s)"
    path.write_text(
        "\n".join([head, "o\tplayer #1:/x/a.mp4\t9.5\trun\tSTATE\t1\t2.25", "o\t/x/a.mp4\t9.5\tbark\tPOINT\t3\tNA", ""])
    )
    assert guess_format(path) == "boris"
    (video,) = read_annotations(path).videos.values()
    assert (video.id, video.labels, video.duration) == ("a", ("bark", "run"), 9.5)
    assert video.annotations == (Annotation(1.0, 2.25, "run"),)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"file": {"1": ["a.mp4", "b.mp4"]}}, "wanted one media file"),
        ({"file": {}}, "wanted one media file"),
        ({"time offset": 3.0}, "time offset"),
        ({"events": [["soon", "", "run"]]}, "event 0"),
        ({"events": {}}, "events: wanted a list"),
        ({"events": [[1.0, "", None]]}, "code"),
        ({"events": []}, "no observation has an event"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, broken, words):
    path = project(
        tmp_path, one=observation(**{"events": [], **broken}) if "events" not in broken else {**observation(), **broken}
    )
    with pytest.raises(FormatError, match=words):
        read_annotations(path)
