"""Figures of papers: their conditions, and a run's differences from them."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from wtal.data.grid import SnippetGrid
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter
from wtal.errors import UsageError
from wtal.pipeline.comparison.ablation import ablation_names, load_ablation, printed_in
from wtal.pipeline.comparison.compare import planned_rows
from wtal.pipeline.comparison.reported import Printed, is_of
from wtal.pipeline.recipe import load_recipe, recipe_names

PRINTED = Printed(
    {"0.5": 27.0}, "A paper", "I3D", "its protocol", "i3d", 200, 20, "thumos14", fps="25", stride=16, flow="tvl1"
)


@pytest.mark.parametrize(
    ("identity", "videos", "classes", "difference"),
    [
        ({"backbone": "motion"}, 200, 20, "features of motion, theirs of i3d"),
        ({"backbone": "i3d"}, 24, 20, "24 videos, theirs 200"),
        ({"backbone": "i3d"}, 198, 4, "4 classes, theirs 20"),
        ({"backbone": "i3d", "weights": {"rgb": {"weights": {"random": "0"}}}}, 200, 20, "weights are random 0"),
        ({"backbone": "i3d", "fps": "30"}, 200, 20, "features at 30 frames per second, theirs at 25"),
        ({"backbone": "i3d", "stride": 8}, 200, 20, "features every 8 frames, theirs every 16"),
        ({"backbone": "i3d", "flow": {"name": "dis"}}, 200, 20, "optical flow of dis, theirs of tvl1"),
        ({"backbone": "slowfast:r101"}, 200, 20, "features of slowfast:r101, theirs of i3d"),
    ],
)
def test_what_differs_from_the_paper_is_named(tmp_path, identity, videos, classes, difference):
    _, last = PRINTED.remarks(store_with(tmp_path, identity), videos, classes)
    assert last == f"not comparable with reported rows: {difference}"
    assert PRINTED.comparable(store_with(tmp_path / "again", identity), videos, classes) is False


def test_what_may_stand_beside_the_paper(tmp_path):
    (only,) = PRINTED.remarks(store_with(tmp_path / "own", {"backbone": "i3d"}), 198, 20)
    assert only == "reported rows are printed in A paper (I3D, its protocol)"
    imported = store_with(tmp_path / "other", {"backbone": "i3d", "layout": "wtalc-joint"})
    assert PRINTED.remarks(imported, 198, 20)[1].startswith("comparable with reported rows only if the imported")
    assert PRINTED.comparable(imported, 198, 20) is None
    assert "not recorded" in Printed({"0.5": 27.0}, "A paper").remarks(imported, 198, 20)[1]
    assert not Printed({}).remarks(imported, 198, 20)
    assert Printed({}).comparable(imported, 198, 20) is None
    own = store_with(tmp_path / "third", {"backbone": "i3d", "fps": "15", "stride": 8})
    assert "only if the features are at the paper's rate" in replace(PRINTED, fps="", stride=0).remarks(own, 198, 20)[1]


@pytest.mark.parametrize(
    ("rules", "difference"),
    [
        ("snippet-best", "evaluated by the rules of activitynet, theirs by those of snippet-best"),
        ("", "evaluated by the rules of activitynet, theirs by other or unpublished rules"),
    ],
)
def test_figures_of_another_protocol_are_not_called_comparable(tmp_path, rules, difference):
    store = store_with(tmp_path, {"backbone": "i3d", "fps": "25", "stride": 16, "flow": {"name": "tvl1"}})
    assert replace(PRINTED, rules=rules).remarks(store, 200, 20)[1].endswith(f"rows: {difference}")
    assert replace(PRINTED, rules=rules).comparable(store, 200, 20) is False
    assert replace(PRINTED, rules="activitynet").comparable(store, 200, 20) is True
    assert len(replace(PRINTED, rules="activitynet").remarks(store, 200, 20)) == 1
    assert len(replace(PRINTED, rules="snippet-best").remarks(store, 200, 20, "snippet-best")) == 1
    with pytest.raises(UsageError, match="no protocol 'snipet'"):
        replace(PRINTED, rules="snipet")


@pytest.mark.parametrize(
    ("backbone", "wanted", "same"),
    [
        ("csn:r101", "csn", True),
        ("slowfast:r101", "slowfast:r152", False),
        ("i3d+hacs-i3d", "hacs-i3d+i3d", True),
        ("i3d", "hacs-i3d+i3d", False),
    ],
)
def test_a_backbone_without_its_variant_is_any_of_them(backbone, wanted, same):
    assert is_of(backbone, wanted) is same


def test_the_rate_of_a_papers_features_is_that_of_its_recipe():
    (plan,) = planned_rows(["thumos14/stpn"], None)
    assert (plan.printed.fps, plan.printed.stride, plan.printed.flow) == ("10", 16, "tvl1")
    (plan,) = planned_rows(["hacs/lgbm"], None)
    assert (plan.printed.backbone, plan.printed.fps, plan.printed.stride) == ("csn", "", 0)


def store_with(folder, identity):
    writer = StoreWriter.open(folder / "store", identity)
    writer.write("a", SnippetGrid(Fraction(25), 24, Fraction(12), 12), {"rgb": np.zeros((2, 3), np.float32)}, {})
    return FeatureStore.open(writer.publish().path)


@pytest.mark.parametrize("name", ablation_names())
def test_every_table_says_what_its_figures_stand_on(name):
    table = load_ablation(name)
    made = [printed_in(table, row) for row in table.rows]
    if any(printed.mAP for printed in made):
        assert all(one.backbone and one.features and one.videos and one.classes for one in made)


def test_every_reported_row_of_a_recipe_says_what_it_stands_on():
    for name in recipe_names():
        *heads, plan = planned_rows([name], None)
        assert not any(head.printed.mAP for head in heads)
        assert len(heads) == (load_recipe(name).refine is not None)
        if plan.printed.mAP:
            assert plan.printed.videos, name
            assert plan.printed.classes, name
            assert plan.printed.features, name
