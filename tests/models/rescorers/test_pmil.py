"""P-MIL against its authors' numbers, and its parts by hand."""

import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.support.reference import SHARED, needs_shared, reference_normal, reference_weights
from tests.support.students import assert_near
from wtal.data.batch import SnippetBatch
from wtal.errors import WeightsError
from wtal.models import create_rescorer, load_author_rescorer
from wtal.models.layers.regions import bin_means
from wtal.models.localization.suppression import suppress
from wtal.models.rescorer import ProposalBatch
from wtal.models.rescorers.pmil import overlap_with_picked, pairwise_tiou, ramp, rank_consistency

STREAMS = {"v": "rgb", "f": "flow"}
LAYERS = {"cas": "cas", "attn": "attention", "iou": "completeness"}


@cache
def authors():
    """Reference with `facts`, `arrays`, the `network` with its weights, the `batch` and its `output`."""
    folder = SHARED / "reference" / "heads2"
    facts = json.loads((folder / "pmil.json").read_text())
    with np.load(folder / "pmil.npz") as archive:
        arrays = dict(archive)
    weights = {key: torch.from_numpy(value) for key, value in reference_weights(facts["state"]).items()}
    features = torch.from_numpy(np.abs(reference_normal("input:" + facts["input"], tuple(facts["shape"]))) * 0.4)
    mask = torch.arange(features.shape[1])[None] < torch.from_numpy(arrays["lengths"])[:, None]
    streams = {"rgb": features[..., :1024] * mask[..., None], "flow": features[..., 1024:] * mask[..., None]}
    snippets = SnippetBatch.from_features(streams, torch.from_numpy(arrays["labels"]), mask)
    proposals = [torch.from_numpy(arrays[f"proposals{video}"]) for video in range(len(mask))]
    batch = ProposalBatch.collate(snippets, proposals)
    network = load_author_rescorer("pmil", weights, arrays["labels"].shape[1])
    with torch.no_grad():
        output = network(batch)
    return SimpleNamespace(facts=facts, arrays=arrays, weights=weights, network=network, batch=batch, output=output)


@needs_shared
def test_regions_are_the_authors():
    theirs = authors()
    batch, real = theirs.batch, theirs.arrays["prop_mask"] > 0
    quarter = 0.25 * (batch.borders[:, 1:] - batch.borders[:, :1])
    wide = batch.borders + torch.cat([-quarter, quarter], dim=1)
    bins = bin_means(batch.snippets.features(), batch.snippets.lengths, wide, batch.video, 12, to_the_right=True)
    assert_near(bins[..., :8], theirs.arrays["roi_first8"][real])
    assert_near(bins.mean(dim=-1), theirs.arrays["roi_mean"][real])


@needs_shared
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("layer", LAYERS)
def test_logits_are_the_authors(stream, layer):
    theirs = authors()
    own = theirs.output.extras[f"{LAYERS[layer]}_{STREAMS[stream]}"]
    expected = theirs.arrays[f"prop_{stream}_{layer}"][theirs.arrays["prop_mask"] > 0]
    assert_near(own, expected.reshape(own.shape))


@needs_shared
def test_losses_are_the_authors():
    theirs = authors()
    losses = theirs.facts["losses"]
    for epoch in (1, 15, 30):
        terms = theirs.network.loss(theirs.output, theirs.batch, epoch / 200)
        rise = losses[f"ramp_epoch{epoch}"]
        weights = {"mil_orig": 2, "mil_supp": 1, "irc": 2 * rise, "comp": 20 * rise}
        assert terms.keys() == weights.keys()
        for name, weight in weights.items():
            mean = (losses[f"{name}_v"] + losses[f"{name}_f"]) / 2
            assert terms[name].item() == pytest.approx(weight * mean, rel=1e-5), name
        assert sum(terms.values()).item() == pytest.approx(losses[f"total_epoch{epoch}"], rel=1e-5)


@needs_shared
def test_detections_are_the_authors():
    theirs = authors()
    assert_near(theirs.output.video_scores[0], theirs.arrays["video_scores0"])
    (label,), count = theirs.arrays["classes0"], int(theirs.arrays["counts"][0])
    scores = theirs.output.scores[:count, label] + 0.2 * theirs.output.video_scores[0, label]
    left = suppress(
        theirs.arrays["proposals0"].astype(np.float64),
        scores.double().numpy(),
        np.zeros(count, np.int64),
        "soft",
        0.0,
        soft_sigma=0.3,
        added_length=np.ones(count),
    )
    expected = theirs.arrays["detections0"]
    np.testing.assert_array_equal(left.borders, expected[:, :2].astype(np.float64))
    np.testing.assert_allclose(left.scores, expected[:, 3], rtol=1e-4)


@needs_shared
def test_a_checkpoint_that_is_none_is_refused():
    weights = dict(authors().weights)
    del weights["prop_v_backbone.prop_attention.2.bias"]
    with pytest.raises(WeightsError, match=r"missing prop_v_backbone.prop_attention.2.bias"):
        load_author_rescorer("pmil", weights, 20)
    with pytest.raises(WeightsError, match="prop_classifier"):
        load_author_rescorer("pmil", authors().weights, 7)
    with pytest.raises(WeightsError, match="missing"):
        load_author_rescorer("pmil", {}, 20)


@needs_shared
def test_ours_differs_by_the_labels_sum_alone_where_no_region_is_short():
    theirs = authors()
    ours = create_rescorer("pmil", 20, {"rgb": 1024, "flow": 1024}, width=1024, head_width=512).eval()
    ours.load_state_dict(theirs.network.state_dict())
    with torch.no_grad():
        output = ours(theirs.batch)
    torch.testing.assert_close(output.scores, theirs.output.scores)
    own, their = (network.loss(output, theirs.batch, 1.0) for network in (ours, theirs.network))
    shares = {"mil_orig": 2, "mil_supp": 1}  # labels of all but one video sum to 2 and 1
    assert own["irc"] == their["irc"]
    assert own["comp"] == their["comp"]
    for name, total in shares.items():
        assert 1 < own[name].item() / their[name].item() <= 1 + 1.01e-4 / total


def test_bins_are_means_of_interpolations():
    """Compare with numpy, sample by sample, on a ramp and a wave with zeros outside."""
    time = np.arange(40.0)
    features = np.stack([time, np.sin(time)], axis=1)
    borders = np.array([[3.0, 27.5], [0.0, 4.0], [-6.0, 50.0], [38.9, 40.0], [10.2, 10.3]])
    found = bin_means(
        torch.from_numpy(features)[None], torch.tensor([40]), torch.from_numpy(borders), torch.zeros(5).long(), 4
    )
    padded_time = np.arange(-2.0, 42.0)
    padded = np.pad(features, ((2, 2), (0, 0)))
    for row, (start, end) in enumerate(borders):
        if end - start < 1:
            start, end = (start + end) / 2 - 0.5, (start + end) / 2 + 0.5
        count = int(np.ceil((end - start) / 4))
        places = start + (np.arange(4 * count) + 0.5) * (end - start) / (4 * count) - 0.5
        for column in range(2):
            values = np.interp(places, padded_time, padded[:, column], left=0, right=0)
            np.testing.assert_allclose(found[row, :, column], values.reshape(4, count).mean(axis=1), atol=1e-12)


def test_ranks_by_hand():
    """Two are above the mean of the attention: the first overlaps itself and the second, the last only itself."""
    overlap = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    student, teacher = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[2.0], [0.0], [1.0]])
    attention = torch.tensor([0.9, 0.1, 0.8])
    own, leading = torch.tensor([0.0, 1.0]).softmax(0), torch.tensor([2.0, 0.0]).softmax(0)
    expected = (leading * (leading / own).log()).sum() / 2
    assert rank_consistency(student, teacher, attention, overlap).item() == pytest.approx(expected.item(), rel=1e-6)
    assert rank_consistency(student, teacher, torch.ones(3), overlap).item() == 0


def test_completeness_by_hand():
    """Pick the best and the distant one, not the neighbour in second place, and never the faint one."""
    borders = torch.tensor([[0.0, 10.0], [5.0, 15.0], [20.0, 30.0], [40.0, 50.0]])
    attention = torch.tensor([1.0, 0.95, 0.9, 0.5])
    expected = torch.tensor([1.0, 1 / 3, 1.0, 0.0])
    torch.testing.assert_close(overlap_with_picked(pairwise_tiou(borders), attention, 0.8), expected)


def test_the_ramp_rises_to_one():
    assert ramp(0.0, 0.15) == pytest.approx(np.exp(-5))
    assert ramp(0.075, 0.15) == pytest.approx(np.exp(-1.25))
    assert ramp(0.15, 0.15) == ramp(0.9, 0.15) == ramp(0.0, 0.0) == 1
