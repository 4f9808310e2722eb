"""Next verdicts: uncertain, new, spread; and messages of the commands."""

import json

from tests.support.collections import call
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.files import write_json
from wtal.data.segments import Annotation, Detection
from wtal.data.verdicts import Judged, Verdict, Verdicts, write_verdicts
from wtal.pipeline.review.next_verdicts import choose


def detections(*scores, label="run"):
    return [Detection(10.0 * k, 10.0 * k + 5, label, score) for k, score in enumerate(scores)]


def chosen(own, count=1, verdicts=None, dataset=None):
    return [
        (c.video, c.detection.label, c.detection.score) for c in choose(own, verdicts or Verdicts(), dataset, count)
    ]


def yes(video, detection):
    judged = Judged(segment=(detection.start, detection.end), score=detection.score)
    return Verdict(video=video, label=detection.label, verdict="yes", segment=None, detection=judged)


def test_scores_in_the_middle_of_their_class_come_first():
    assert chosen({"a": detections(0.1, 0.2, 0.52, 0.9)}) == [("a", "run", 0.52)]
    both = {"a": [*detections(10, 14, 20), *detections(0.0, 0.5, 1.0, label="sit")]}
    assert chosen(both, 2)[0] == ("a", "sit", 0.5)


def test_videos_without_labels_and_contradictions_come_before_what_is_said_already():
    own = {"known": detections(0.0, 0.5, 1.0), "new": detections(0.6), "other": detections(0.7)}
    videos = {"known": VideoRecord("known", None, "t", ("run",)), "other": VideoRecord("other", None, "t", ("sit",))}
    order = choose(own, Verdicts(), Dataset(("run", "sit"), videos), 3)
    assert [c.video for c in order] == ["new", "other", "known"]
    assert [c.reason for c in order] == ["the video is unlabelled", "labelled sit", "as labelled"]


def test_videos_and_classes_take_turns():
    own = {video: detections(0.0, 0.45, 0.5, 0.55, 1.0) for video in "abc"}
    assert sorted(video for video, *_ in chosen(own, 3)) == ["a", "b", "c"]
    mixed = {"a": [*detections(0.0, 0.5, 0.51, 1.0), *detections(0.0, 0.4, 1.0, label="sit")]}
    assert [label for _, label, _ in chosen(mixed, 2)] == ["run", "sit"]


def test_what_has_a_verdict_and_what_was_looked_at_is_passed_over():
    own = {"a": detections(0.0, 0.5, 1.0), "b": detections(0.45), "c": detections(0.4)}
    said = Verdicts(verdicts=(yes("a", own["a"][1]),), looked_at=("b",))
    assert chosen(own, 9, said) == [("c", "run", 0.4), *[("a", "run", score) for score in (1.0, 0.0)]]
    assert chosen({}, 9) == []


def test_as_many_as_are_asked_for_and_none_twice():
    own = {video: detections(*(k / 40 for k in range(40))) for video in "abcd"}
    names = chosen(own, 100)
    assert len(set(names)) == len(names) == 100


def test_the_commands_say_what_there_is(tmp_path):
    own = {"a": detections(0.0, 0.5, 1.0), "b\n<b>": detections(0.45)}
    results = {
        video: [{"label": d.label, "score": d.score, "segment": [d.start, d.end]} for d in entries]
        for video, entries in own.items()
    }
    file = write_json(tmp_path / "found.json", {"results": results})
    content = json.loads(call("review", "next", file, "--count", 2, "--json").stdout)
    assert [entry["score"] for entry in content["next"]] == [0.5, 0.45]
    assert content["page"].endswith("found-report/index.html")
    lines = call("review", "next", file).stdout.splitlines()
    assert len(lines) == 5, "a line for each detection, one for the page"
    write_verdicts(Verdicts(verdicts=(yes("a", own["a"][1]),), looked_at=("a",)), tmp_path / "found-verdicts.json")
    shown = call("review", "show", file).stdout
    assert "1 videos reviewed" in shown
    labels = tmp_path / "labels.csv"
    labels.write_text("video,label\na,sit\na,run\n")
    told = json.loads(call("review", "show", file, "--annotations", labels, "--json").stdout)
    assert told["counts"]["run"]["yes"] == 1
    assert "labelled 'sit'" in told["teaches"]["contradictions"][0]


def test_segments_of_videos_that_were_looked_at_judge(tmp_path):
    file = write_json(tmp_path / "found.json", {"results": {}})
    refused = call("review", "annotations", tmp_path / "out.json", "--source", file, code=2)
    assert "no video as looked at" in refused.stderr
    missed = Verdict(video="a", label="sit", verdict="missed", segment=(1.0, 2.0), detection=None)
    apart = Verdict(video="b", label="sit", verdict="missed", segment=(1.0, 2.0), detection=None)
    said = Verdicts(verdicts=(missed, apart, yes("a", detections(0.5)[0])), looked_at=("a", "empty"))
    write_verdicts(said, tmp_path / "found-verdicts.json")
    call("review", "annotations", tmp_path / "out.json", "--source", file)
    dataset = read_annotations(tmp_path / "out.json")
    assert dataset.videos["a"].annotations == (Annotation(0.0, 5.0, "run"), Annotation(1.0, 2.0, "sit"))
    assert dataset.videos["empty"].labels == ()
    assert dataset.subsets == {"reviewed": 2}
    assert call("review", "annotations", tmp_path / "out.json", "--source", file, code=2).stderr.count("\n") == 1


def test_next_stands_alone_and_asks_the_newest_run(tmp_path):
    assert "no finished run" in call("review", "--next", 20, "--workspace", tmp_path, code=2).stderr
    assert "leave out --next" in call("review", "--next", 20, "show", code=2).stderr
    assert "no verdicts in" in call("review", "--workspace", tmp_path).stdout
