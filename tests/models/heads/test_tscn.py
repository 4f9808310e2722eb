"""TSCN: its losses by hand, its refinement, its average, and a stop at any step."""

import pytest
import torch

from tests.support.planted import STREAMS, WIDTH, planted_videos
from wtal.data.batch import SnippetBatch
from wtal.errors import UsageError, WeightsError
from wtal.models import create_head, load_author_checkpoint
from wtal.models.training.checkpoint import load_stage
from wtal.models.training.config import TrainConfig
from wtal.models.training.inputs import LabelledVideo
from wtal.models.training.trainer import Trainer

DIMS = dict.fromkeys(STREAMS, WIDTH)
TERMS = ("cls", "smooth", "norm", "dist", "guide")


def make(dims=DIMS, **settings):
    torch.manual_seed(0)
    return create_head("tscn", 3, dims, **{"width": 8, **settings})


def batch_of(lengths=(16, 9)):
    generator = torch.Generator().manual_seed(0)
    videos = [{s: torch.rand(n, WIDTH, generator=generator) for s in STREAMS} for n in lengths]
    return SnippetBatch.collate(videos, torch.tensor([[1.0, 0, 0], [0, 1, 1]])[: len(lengths)])


def videos():
    return [LabelledVideo(v.id, lambda v=v: v.streams, v.labels) for v in planted_videos(6, seed=4)]


def train(folder, head, stop_after=None):
    config = TrainConfig(steps=9, batch_size=3, learning_rate=1e-2, sampling="full", checkpoint_every=2)

    def on_step(progress):
        if progress.step == stop_after:
            raise KeyboardInterrupt

    return Trainer(head, videos(), config, 0, folder).run(on_step)


def test_the_terms_by_their_equations():
    head, batch = make().eval(), batch_of((16,))
    output = head(batch)
    terms = head.loss(output, batch)
    assert set(terms) == {f"{term}_{stream}" for term in TERMS for stream in STREAMS}
    rgb, label = output.streams["rgb"], 0
    a, s = rgb.attention[0], rgb.cas[0].softmax(-1)[:, label]
    steps = (a[1:] - a[:-1]).abs()
    wanted = {
        "smooth": 0.1 * (steps.sum() + steps.sum()) / 15,
        "norm": 0.1 * (a.topk(2, largest=False).values.mean() - a.topk(2).values.mean()),
        "guide": 0.1 * (a - s).abs().mean(),
    }
    y = rgb.video_scores[0]
    wanted["cls"] = -(y[0].log() + (1 - y[1]).log() + (1 - y[2]).log())
    for name, value in wanted.items():
        torch.testing.assert_close(terms[f"{name}_rgb"], value)
    alike = torch.cosine_similarity(rgb.extras["x_fg"], rgb.extras["x_bg"])[0]
    torch.testing.assert_close(terms["dist_rgb"], 0.1 * torch.relu(alike - 0.5))


@pytest.mark.parametrize("left_out", ["smooth", "norm", "dist", "guide"])
def test_every_term_has_its_switch(left_out):
    head, batch = make(**{f"{left_out}_weight": 0}), batch_of()
    assert {name.rpartition("_")[0] for name in head.loss(head(batch), batch)} == set(TERMS) - {left_out}


def test_streams_are_fused_with_their_weights():
    head, batch = make().eval(), batch_of()
    output = head(batch)
    rgb, flow = output.streams["rgb"], output.streams["flow"]
    torch.testing.assert_close(output.attention, 0.6 * rgb.attention + 0.4 * flow.attention)
    torch.testing.assert_close(output.cas.softmax(-1), 0.6 * rgb.cas.softmax(-1) + 0.4 * flow.cas.softmax(-1))
    torch.testing.assert_close(output.video_scores, 0.6 * rgb.video_scores + 0.4 * flow.video_scores)
    alone = make({"rgb": WIDTH}).eval()
    assert torch.equal(alone(batch).attention, alone(batch).streams["rgb"].attention)
    with pytest.raises(UsageError, match="lack 'flow'"):
        head(batch.only("rgb"))


def test_refinement_drops_two_terms_and_learns_from_the_last_iteration():
    head, batch = make().eval(), batch_of()
    before = head(batch).attention
    head.end_stage(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.05)
    output = head(batch)
    terms = head.loss(output, batch)
    assert {name.rpartition("_")[0] for name in terms} == {"cls", "dist", "guide", "pseudo"}
    wanted = []
    for flow, teacher, length in zip(output.streams["flow"].attention, before, batch.lengths.tolist(), strict=True):
        a, truth = flow[:length], (teacher[:length] > 0.5).float()
        wanted.append(-(truth * a.log() + (1 - truth) * (1 - a).log()).clamp(min=-100).mean())
    wanted = torch.stack(wanted).mean()
    torch.testing.assert_close(terms["pseudo_flow"], 0.01 * wanted)


def test_the_run_ends_with_the_running_average_of_its_iterations(tmp_path):
    trained = train(tmp_path, make(iterations=3))
    kept = [dict(load_stage(make(iterations=3), tmp_path, i).head.named_parameters()) for i in range(3)]
    for name, value in trained.head.named_parameters():
        wanted = kept[0][name]
        for one in kept[1:]:
            wanted = 0.8 * wanted + 0.2 * one[name]
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop", [4, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 3, 6, 8))])
def test_a_stop_changes_nothing(tmp_path, stop):
    whole = train(tmp_path / "whole", make(iterations=3))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", make(iterations=3), stop)
    resumed = train(tmp_path / "cut", make(iterations=3))
    for key, value in whole.head.state_dict().items():
        assert torch.equal(value, resumed.head.state_dict()[key]), key
    assert int(whole.head.iteration) == 3


def test_the_base_model_alone_keeps_no_copies():
    head = make(iterations=1)
    assert head.stages == 1
    assert {name for name, _ in head.named_buffers()} == {"iteration"}
    assert "pseudo_rgb" not in head.loss(head(batch_of()), batch_of())


def test_there_is_no_checkpoint_to_load():
    with pytest.raises(WeightsError, match=r"none is public; got a\.weight"):
        load_author_checkpoint("tscn", {"a.weight": torch.zeros(1)}, num_classes=3)
