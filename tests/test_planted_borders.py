"""Planted borders: what is in their features, and which rows their table has."""

from dataclasses import replace

import numpy as np

from experiments.planted import RECIPES
from experiments.planted_borders import (
    SOURCE,
    Footage,
    chosen,
    ensemble_rows,
    head_rows,
    shown_borders,
    shown_classes,
)
from tests.support.reference import SHARED, needs_shared
from wtal.data.annotations import read_annotations
from wtal.data.segments import Annotation
from wtal.models.heads import HEADS
from wtal.pipeline.recipe import load_recipe
from wtal.pipeline.train import resolve_early

TIMES = np.arange(0.03, 100, 0.08)
ACTIONS = [Annotation(start, start + 4.0, "LongJump") for start in range(5, 95, 10)]
SHARP = replace(Footage(), shift=0.0, outward=0.0, ramp=0.0, gap_share=0.0, elsewhere=0.0)


def test_without_shift_ramp_and_gap_a_class_shows_in_its_actions():
    (shown,) = shown_classes(TIMES, ACTIONS, SHARP, np.random.default_rng(0)).values()
    inside = np.any([(one.start < TIMES) & (one.end > TIMES) for one in ACTIONS], axis=0)
    np.testing.assert_array_equal(shown > 0, inside)
    assert shown[inside].min() >= SHARP.faintest


def test_onsets_are_early_and_late_and_right_on_average():
    many = [Annotation(10.0 * i, 10.0 * i + 4, "LongJump") for i in range(1, 500)]
    times = np.arange(0.04, 5010, 0.08)
    footage = replace(SHARP, shift=0.3)
    (shown,) = shown_classes(times, many, footage, np.random.default_rng(0)).values()
    first = np.array([times[(times > one.start - 3) & (shown > 0)][0] - one.start for one in many])
    assert abs(first.mean()) < 0.1
    assert first.min() < -1.0
    assert first.max() > 1.0


def test_a_gap_parts_an_action_and_leaves_its_ends():
    footage = replace(SHARP, gap_share=1.0)
    (shown,) = shown_classes(TIMES, ACTIONS, footage, np.random.default_rng(0)).values()
    for one in ACTIONS:
        own = shown[(one.start < TIMES) & (one.end > TIMES)] > 0
        assert own[0]
        assert own[-1]
        assert 0.15 < 1 - own.mean() < 0.45


def test_cues_show_at_every_border_and_elsewhere():
    starts, ends = shown_borders(TIMES, ACTIONS, SHARP, np.random.default_rng(0))
    for row, borders in ((starts, [one.start for one in ACTIONS]), (ends, [one.end for one in ACTIONS])):
        wanted = np.any([np.abs(TIMES - border) < SHARP.cue for border in borders], axis=0)
        np.testing.assert_array_equal(row > 0, wanted)
    more = shown_borders(TIMES, ACTIONS, replace(SHARP, elsewhere=1.0), np.random.default_rng(0))
    assert more.sum() > 1.3 * (starts.sum() + ends.sum())


def test_members_of_the_teacher_are_the_heads_beside_it():
    """An ensemble's member and the head alone are one training."""
    for member in load_recipe(str(RECIPES / "ensemble.toml")).members():
        alone = load_recipe(str(RECIPES / f"{member.head_name}.toml"))
        assert resolve_early(member).training_identity() == resolve_early(alone).training_identity()


def test_every_head_has_rows():
    rows = [*ensemble_rows(), *head_rows(HEADS.names())]
    assert len({row.name for row in rows}) == 3 + 2 * len(HEADS.names())
    assert [row.second_stage for row in rows[:4]] == [False, False, True, False]


@needs_shared
def test_only_videos_of_the_footage_are_taken():
    footage = replace(Footage(), videos=12)
    dataset = chosen(read_annotations(SHARED / "data" / SOURCE), footage)
    assert len(dataset.select("validation")) == len(dataset.select("test")) == 12
    for video in dataset.videos.values():
        assert set(video.labels) <= set(footage.classes)
        assert video.duration <= footage.longest
