"""Tables of experiments in their page, and folds with held-out sources."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from experiments import published_layout
from experiments._sources import HELD_OUT, TRAINING, Clip, recompose, source_folds
from experiments._tables import refresh
from tests.data.formats.test_formats import write_wtalc
from wtal.data.dataset import Dataset
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Segment
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter
from wtal.pipeline.exchange.import_features import import_features
from wtal.pipeline.workspace import Workspace


def test_tables_fill_their_places_and_nothing_else(tmp_path: Path) -> None:
    """Fill empty marks, filled marks and marks without a table; a second call changes nothing."""
    page, results = tmp_path / "page.md", tmp_path / "results"
    results.mkdir()
    (results / "one.md").write_text("| 1 |\n")
    (results / "two.md").write_text("| 2 |\n")
    page.write_text(
        "<!-- table: one -->\n<!-- end -->\n\nbetween\n\n"
        "<!-- table: two -->\n\n| old |\n\n<!-- end -->\n\nafter\n\n<!-- table: three -->\n<!-- end -->\n"
    )
    assert refresh(results, page) == ["three"]
    wanted = (
        "<!-- table: one -->\n\n| 1 |\n\n<!-- end -->\n\nbetween\n\n"
        "<!-- table: two -->\n\n| 2 |\n\n<!-- end -->\n\nafter\n\n<!-- table: three -->\n<!-- end -->\n"
    )
    assert page.read_text() == wanted
    refresh(results, page)
    assert page.read_text() == wanted


def test_a_source_is_held_out_whole_and_segments_follow_their_rows(tmp_path: Path) -> None:
    """Recompose two videos of five clips of 4 s: each action occurs twice, from two sources; rows identify clips."""
    looks = {
        name: np.full((3, 24, 32, 3), grey, np.float32) for name, grey in zip("abcdef", np.arange(6) / 6, strict=True)
    }
    order = {"one": "dafbe", "two": "dbfae"}
    writer = StoreWriter.open(tmp_path / "store", {"features": "planted"})
    clips = []
    for number, (video, sources) in enumerate(order.items()):
        rows = np.repeat([100 * number + i for i in range(5)], 4).astype(np.float32)
        writer.write(video, SnippetGrid(Fraction(8), 160, Fraction(8), 8), {"rgb": rows[:, None]}, {}, video)
        clips += [
            Clip(video, 4.0 * i, 4.0 * i + 4, "jump" if source in "ab" else "", looks[source])
            for i, source in enumerate(sources)
        ]
    store = FeatureStore.open(writer.publish().path)
    folds = source_folds(clips, (0.1, 0.1), 2)
    assert folds[1] == folds[8] != folds[3] == folds[6], "the two clips of an action's source are together"
    assert all(folds[i] == folds[i + 5] for i in (0, 2, 4)), "and so are those of what lies between"
    for fold in (0, 1):
        dataset = recompose(store, Dataset(("jump",), {}), clips, folds, fold, tmp_path / f"fold-{fold}")
        split = FeatureStore.open(tmp_path / f"fold-{fold}")
        assert sorted(split.ids) == sorted(dataset.videos)
        rows = {name: set() for name in (TRAINING, HELD_OUT)}
        for video in dataset.videos.values():
            values = split[video.id].streams["rgb"][:, 0]
            rows[video.subset] |= set(values.tolist())
            shown = split.grid(video.id).mask([*video.annotations])
            actions = {1.0, 3.0, 101.0, 103.0}
            assert set(values[shown].tolist()) <= actions, "a segment moves with the rows of its clip"
            assert not set(values[~shown].tolist()) & actions
        held = {100.0 * (i // 5) + i % 5 for i, own in enumerate(folds) if own == fold}
        assert rows[HELD_OUT] == held
        assert not rows[TRAINING] & held


def test_planted_features_of_a_published_layout_are_imported_as_the_real_ones(tmp_path: Path) -> None:
    """Import two videos of ten, from the joint file and from separate files; rows in a segment exceed the noise."""
    names = [f"video_{number}" for number in range(10)]
    segments, labels = np.empty(10, dtype=object), np.empty(10, dtype=object)
    segments[:], labels[:] = [[[4.0, 10.0]]] * 10, [["jump"]] * 10
    source = write_wtalc(
        tmp_path / "source",
        videoname=np.array([name.encode() for name in names]),
        subset=np.array([b"validation"] * 5 + [b"test"] * 5),
        labels=labels,
        labels_all=labels,
        segments=segments,
        duration=np.full((10, 1), 32.0),
    )
    stores = []
    for layout in (published_layout.JOINT, published_layout.PER_VIDEO):
        features, annotations = published_layout.write(source, tmp_path / layout, 2, layout)
        imported = import_features(features, annotations, Workspace(tmp_path / layout / "workspace"))
        assert not imported.failures
        stores.append(FeatureStore.open(imported.store))
    for store in stores:
        assert store.ids == (names[0], names[-1])
        assert store.dims == {"flow": 1024, "rgb": 1024}
        for key in store.ids:
            rows = store[key].streams["rgb"].sum(axis=1)
            shown = store.grid(key).mask([Segment(4.0, 10.0)])
            assert rows[shown].min() > rows[~shown].max()
            np.testing.assert_array_equal(rows, stores[0][key].streams["rgb"].sum(axis=1))
