"""Lessons from verdicts: confirmed or removed labels, known negatives, and no times."""

import pytest

from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.segments import Annotation
from wtal.data.verdicts import Judged, Verdict, Verdicts
from wtal.pipeline.review.lesson import learn

CLASSES = ("jump", "run", "sit")


def verdict(video, label, answer, start=1.0):
    segment = (start, start + 1) if answer in ("moved", "missed") else None
    judged = None if answer == "missed" else Judged(segment=(start + 0.5, start + 2), score=0.5)
    return Verdict(video=video, label=label, verdict=answer, segment=segment, detection=judged)


def learned(video, *verdicts, looked_at=False, rejected=(), subset="training"):
    dataset = Dataset(CLASSES, {"other": VideoRecord("other", None, "training", ("run",)), video.id: video})
    said = Verdicts(verdicts=verdicts, looked_at=(video.id,) if looked_at else ())
    return learn(dataset, said, subset, {(video.id, label) for label in rejected})


def record(*labels, absent=(), annotations=(), name="a"):
    return VideoRecord(name, 9.0, "training", labels, annotations, (), absent)


@pytest.mark.parametrize("answer", ["yes", "moved", "missed"])
def test_what_is_confirmed_is_a_label(answer):
    lesson = learned(record("run"), verdict("a", "jump", answer))
    assert lesson.dataset.videos["a"].labels == ("jump", "run")
    assert lesson.contradictions == ()
    assert lesson.notes == ("1 videos with confirmed labels (a)",)


def test_a_confirmed_label_that_is_there_teaches_nothing():
    lesson = learned(record("run"), verdict("a", "run", "yes"))
    assert lesson.dataset.videos["a"] == record("run")
    assert lesson.notes == ()


def test_a_class_that_was_seen_nowhere_is_no_label_and_neither_are_its_times():
    times = (Annotation(1.0, 2.0, "run"), Annotation(3.0, 4.0, "jump"))
    lesson = learned(
        record("jump", "run", annotations=times), verdict("a", "run", "no"), verdict("a", "jump", "yes"), looked_at=True
    )
    assert lesson.dataset.videos["a"] == record("jump", annotations=times[1:])
    assert lesson.contradictions == ("a: labelled 'run', but the reviewer saw none of it; the label is removed",)


def test_looked_at_and_nothing_there_is_a_known_negative():
    lesson = learned(record("run"), looked_at=True)
    assert lesson.dataset.videos["a"] == record()
    assert lesson.notes == ("1 videos with labels removed (a)", "1 known negatives (a)")
    assert learned(record(absent=("run",)), looked_at=True).dataset.videos["a"] == record()


def test_what_was_skipped_stays_as_it_was():
    both = learned(record("run", "sit"), verdict("a", "run", "skip"), looked_at=True).dataset.videos["a"]
    assert both == record("run")
    unknown = learned(record(absent=("jump",)), verdict("a", "run", "skip"), looked_at=True).dataset.videos["a"]
    assert unknown == record(absent=("jump", "sit"))
    assert unknown.shows("run") is None


def test_rejections_alone_take_no_label_away():
    lesson = learned(record("run"), verdict("a", "run", "no"), rejected=["run"])
    assert lesson.dataset.videos["a"] == record("run")
    assert len(lesson.contradictions) == 1
    assert "the label stays" in lesson.contradictions[0]


def test_a_class_rejected_everywhere_is_absent_where_nobody_said_otherwise():
    lesson = learned(record(absent=("sit",)), verdict("a", "run", "no"), rejected=["run"])
    assert lesson.dataset.videos["a"] == record(absent=("run", "sit"))
    assert lesson.notes == ("1 videos known to lack some classes (a)",)
    assert learned(record(absent=("sit",)), verdict("a", "run", "no")).notes == ()


def test_a_person_saw_what_the_file_denies():
    lesson = learned(record(absent=("run", "sit")), verdict("a", "run", "yes"))
    assert lesson.dataset.videos["a"].labels == ("run",)
    assert lesson.dataset.videos["a"].absent == ("sit",)
    assert lesson.contradictions == ("a: stated not to show 'run', but the reviewer saw it; the label is added",)
    negative = learned(record(), verdict("a", "run", "missed"))
    assert negative.contradictions == lesson.contradictions


def test_videos_that_nobody_labelled_join_those_that_train():
    dataset = Dataset(CLASSES, {"other": VideoRecord("other", None, "training", ("run",))})
    said = Verdicts(verdicts=(verdict("new", "run", "yes"), verdict("odd", "sit", "no")), looked_at=("empty",))
    lesson = learn(dataset, said, "training", {("odd", "sit")})
    assert lesson.dataset.videos["new"] == VideoRecord("new", None, "training", ("run",))
    assert lesson.dataset.videos["empty"] == VideoRecord("empty", None, "training", ())
    assert lesson.dataset.videos["odd"] == VideoRecord("odd", None, "training", (), absent=("sit",))
    assert lesson.notes[-1] == "1 videos had no label before (new): no other class counts as shown there"
    fold = learn(dataset, said, "training@!0/2", {("odd", "sit")})
    assert fold.dataset == dataset
    assert fold.notes == ("3 videos are not used for training, so verdicts on them teach nothing (new, odd, empty)",)


def test_reported_videos_teach_nothing():
    reported = VideoRecord("a", None, "validation", ("run",))
    lesson = learned(reported, verdict("a", "jump", "yes"), looked_at=True)
    assert lesson.dataset.videos["a"] == reported
    assert "are not used for training" in lesson.notes[0]


def test_classes_that_the_annotations_lack_are_told_and_left_out():
    lesson = learned(record("run"), verdict("a", "jmup", "missed"))
    assert lesson.dataset.classes == CLASSES
    assert lesson.dataset.videos["a"] == record("run")
    assert lesson.notes == ("1 verdicts are on classes missing from the annotations, and teach nothing (jmup)",)


def test_names_are_matched_as_elsewhere():
    lesson = learned(record("run", name="v_a"), *(verdict("a", label, "yes") for label in ("jump", "sit")))
    assert set(lesson.dataset.videos) == {"other", "v_a"}
    assert lesson.dataset.videos["v_a"].labels == CLASSES
