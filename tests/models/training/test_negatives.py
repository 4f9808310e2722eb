"""Known negatives in training: accepted by every head, useful where labels are not enough, equal in resumed runs."""

import numpy as np
import pytest
import torch

from tests.support.narrow import NARROW
from tests.support.planted import STREAMS, WIDTH, planted_videos
from wtal.data.batch import SnippetBatch
from wtal.models import create_head
from wtal.models.head import HeadOutput
from wtal.models.heads import HEADS
from wtal.models.layers.absence import absence
from wtal.models.training.checkpoint import Checkpoint
from wtal.models.training.config import TrainConfig
from wtal.models.training.inputs import LabelledVideo, NegativeVideo
from wtal.models.training.trainer import Trainer

DIMS = dict.fromkeys(STREAMS, WIDTH)
SMALL = {"width": 16, "filter_width": 8}


def one_class(videos):
    """Planted videos as a problem of the first class: videos with it, and known negatives."""
    shown = [LabelledVideo(v.id, lambda v=v: v.streams, v.labels[:1]) for v in videos if v.labels[0]]
    absent = np.ones(1, np.float32)
    return shown, [NegativeVideo(v.id, lambda v=v: v.streams, absent) for v in videos if not v.labels[0]]


def config(steps=4, **settings):
    return TrainConfig(
        steps=steps, batch_size=8, learning_rate=2e-3, sampling="full", checkpoint_every=steps, **settings
    )


def activation(trained, video):
    """Signal (T,) that localization thresholds, from the only class of a one-class BaS-Net."""
    with torch.inference_mode():
        output = trained.head(SnippetBatch.collate([trained.scaler(video.streams)]))
    return (output.cas.softmax(-1)[0, :, 0] * output.attention[0]).numpy()


@pytest.mark.parametrize("name", HEADS.names())
@pytest.mark.parametrize("share", [0.3, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.0, 0.9))])
def test_every_head_trains_with_any_share_of_negatives(name, share, tmp_path):
    videos = planted_videos(10, seed=3)
    negative = round(share * len(videos))
    absent = np.ones(3, np.float32)
    settings = NARROW.get(name, {}) | ({"iterations": 2} if name == "tscn" else {})
    head = create_head(name, 3, DIMS, **settings)
    before = {key: value.clone() for key, value in head.state_dict().items()}
    labelled = [LabelledVideo(v.id, lambda v=v: v.streams, v.labels) for v in videos[negative:]]
    negatives = [NegativeVideo(v.id, lambda v=v: v.streams, absent) for v in videos[:negative]]
    trained = Trainer(head, labelled, config(), 0, tmp_path, negatives=negatives).run()
    state = trained.head.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point())
    assert any(not torch.equal(state[key], value) for key, value in before.items())
    terms = (tmp_path / "log.jsonl").read_text().splitlines()[-1]
    assert ('"negative"' in terms) == (share > 0)


@pytest.mark.slow
def test_negatives_tell_one_class_from_the_rest(tmp_path):
    """If all labelled videos show the class, nothing distinguishes its moments; videos without it do."""
    shown, negatives = one_class(planted_videos(24, seed=1))
    held_out = [video for video in planted_videos(40, seed=2) if video.labels[0]]
    contrast = {}
    for name, given in (("without", []), ("with", negatives)):
        torch.manual_seed(0)
        head = create_head("basnet", 1, DIMS, **SMALL)
        trained = Trainer(head, shown, config(120), 0, tmp_path / name, negatives=given).run()
        gaps = []
        for video in held_out:
            scores, inside = activation(trained, video), np.zeros(len(video.streams["rgb"]), bool)
            other = inside.copy()
            for annotation in video.annotations:
                rows = slice(int(annotation.start * 2), int(annotation.end * 2))
                (inside if annotation.label == "dive" else other)[rows] = True
            if other.any():
                gaps.append(scores[inside].mean() - scores[other].mean())
        contrast[name] = float(np.mean(gaps))
    assert contrast["with"] > 0.5
    assert contrast["with"] > contrast["without"] + 0.2


def test_without_negatives_nothing_changes(tmp_path):
    shown, negatives = one_class(planted_videos(12, seed=1))
    states = []
    for name, given, settings in (("none", [], {}), ("off", negatives, {"negatives": False})):
        torch.manual_seed(0)
        head = create_head("basnet", 1, DIMS, **SMALL)
        states.append(
            Trainer(head, shown, config(**settings), 0, tmp_path / name, negatives=given).run().head.state_dict()
        )
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


def test_a_resumed_run_draws_the_same_negatives(tmp_path):
    shown, negatives = one_class(planted_videos(12, seed=1))

    def trainer(folder):
        torch.manual_seed(0)
        head = create_head("basnet", 1, DIMS, **SMALL)
        settings = config(6).model_copy(update={"checkpoint_every": 3})
        return Trainer(head, shown, settings, 0, folder, negatives=negatives)

    whole = trainer(tmp_path / "whole").run().head.state_dict()

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(progress):
        if progress.step == 4:
            raise Stopped

    with pytest.raises(Stopped):
        trainer(tmp_path / "torn").run(stop)
    assert Checkpoint.newest(tmp_path / "torn").step == 3
    again = trainer(tmp_path / "torn").run().head.state_dict()
    assert all(torch.equal(again[key], value) for key, value in whole.items())


def test_the_term_by_hand():
    cas = torch.zeros(1, 3, 3)
    attention, mask = torch.tensor([[1.0, 0.5, 1.0]]), torch.tensor([[True, True, False]])
    output = HeadOutput(cas, attention, torch.zeros(1, 2))
    shares = np.array([1 / 3, 1 / 6])
    expected = -np.log(1 - shares).mean()
    assert absence(output, torch.tensor([[1.0, 0.0]]), mask).item() == pytest.approx(expected, rel=1e-5)
    assert absence(output, torch.tensor([[1.0, 1.0]]), mask).item() == pytest.approx(2 * expected, rel=1e-5)
    assert absence(output, torch.tensor([[0.0, 0.0]]), mask).item() == 0.0


def test_the_term_without_background_or_attention_takes_the_sigmoid():
    output = HeadOutput(torch.zeros(1, 4, 2), None, torch.zeros(1, 2))
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert absence(output, torch.ones(1, 2), mask).item() == pytest.approx(2 * np.log(2), rel=1e-5)
