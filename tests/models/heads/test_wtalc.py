"""W-TALC against its authors' numbers, and its switches."""

import pytest
import torch

from tests.support.authors import assert_equal, assert_losses, reference
from tests.support.reference import needs_shared
from wtal.data.batch import SnippetBatch
from wtal.errors import WeightsError
from wtal.models import create_head, load_author_checkpoint


def make(**settings):
    torch.manual_seed(0)
    return create_head("wtalc", 3, {"rgb": 8}, **{"width": 16, **settings}).eval()


def batch_of(labels=(0, 0, 1, 1, 2, 2, 0)):
    generator = torch.Generator().manual_seed(0)
    return SnippetBatch.from_features(
        {"rgb": torch.rand(len(labels), 12, 8, generator=generator)}, torch.eye(3)[list(labels)]
    )


@needs_shared
def test_forward_and_losses_equal_the_authors():
    ours = reference("wtalc")
    head = load_author_checkpoint("wtalc", ours.weights, num_classes=20)
    mask = torch.arange(ours.features.shape[1])[None] < torch.from_numpy(ours.arrays["lengths"])[:, None]
    batch = SnippetBatch.from_features({"rgb": ours.features}, ours.labels, mask)
    output = head(batch)
    expected = torch.from_numpy(ours.arrays["cas"])[mask]
    assert_equal({"cas": output.cas[mask]}, {"cas": expected.numpy()})
    assert_equal({"cas": output.cas}, ours.arrays)  # theirs computes on padding
    losses = head.loss(output, batch)
    assert_losses(losses, ours.facts["losses"], {"mil": 0.5, "casl": 0.5})
    assert sum(value.item() for value in losses.values()) == pytest.approx(ours.facts["losses"]["total"], rel=1e-5)


@needs_shared
def test_the_unused_layer_may_be_missing_but_not_of_another_shape():
    weights = reference("wtalc").weights
    torn = {**weights, "fc1.weight": torch.zeros(3, 3)}
    with pytest.raises(WeightsError, match=r"fc1\.weight is \(3, 3\), wanted \(2048, 2048\)"):
        load_author_checkpoint("wtalc", torn, num_classes=20)
    del weights["fc1.weight"], weights["fc1.bias"]
    load_author_checkpoint("wtalc", weights, num_classes=20)
    weights["more"] = weights.pop("classifier.bias")
    with pytest.raises(WeightsError, match=r"unknown more; missing classifier\.bias"):
        load_author_checkpoint("wtalc", weights, num_classes=20)


def test_pairs_follow_the_co_activity_term():
    assert make().pairs == 3
    assert make(pairs=2).pairs == 2
    without = make(casl_weight=0)
    assert without.pairs == 0
    assert set(without.loss(without(batch_of()), batch_of())) == {"mil"}
    alone = make(mil_weight=0)
    assert set(alone.loss(alone(batch_of()), batch_of())) == {"casl"}


def test_pairs_without_a_common_class_have_no_term():
    batch = batch_of(labels=(0, 1, 1, 2, 2, 0))
    head = make()
    assert head.loss(head(batch), batch)["casl"] == 0


def test_the_add_on_is_there_when_it_has_a_weight():
    assert not any(name.startswith("foreground") for name, _ in make().named_parameters())
    head, batch = make(foreground_weight=0.3), batch_of()
    output = head(batch)
    loss = head.loss(output, batch)
    assert set(loss) == {"mil", "casl", "foreground"}
    target = batch.labels
    wanted = -(target * output.extras["foreground"].log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(loss["foreground"], 0.3 * wanted)


def uneven_pairs():
    """Four videos of different lengths: the first two share one class, the others two."""
    generator = torch.Generator().manual_seed(0)
    videos = [{"rgb": torch.rand(n, 8, generator=generator)} for n in (9, 12, 5, 7)]
    return SnippetBatch.collate(videos, torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 1, 1]]).float())


def co_activities(output, batch):
    """Co-activity of each pair and shared class, by the definition."""
    found = []
    for i in range(0, len(batch.mask), 2):
        sides = []
        for j in (i, i + 1):
            n = int(batch.mask[j].sum())
            x, attention = output.extras["features"][j, :n], output.cas[j, :n].softmax(dim=0)
            sides.append((x.T @ attention, x.T @ ((1 - attention) / (n - 1))))
        (high, low), (other_high, other_low) = sides
        pairs = ((high, other_high), (high, other_low), (other_high, low))
        agree, *apart = (1 - torch.nn.functional.cosine_similarity(a, b, dim=0) for a, b in pairs)
        terms = 0.5 * sum(torch.relu(agree - one + 0.5) for one in apart)
        found.append(terms[(batch.labels[i] * batch.labels[i + 1]).bool()])
    return found


def test_pairs_that_share_more_classes_count_more_to_the_authors_alone():
    batch, ours = uneven_pairs(), make()
    theirs = make(authors=True)
    output = ours(batch)
    first, second = co_activities(output, batch)
    assert (len(first), len(second)) == (1, 2)
    torch.testing.assert_close(ours.loss(output, batch)["casl"], 0.5 * (first.mean() + second.mean()) / 2)
    together = torch.cat(co_activities(theirs(batch), batch)).mean()
    torch.testing.assert_close(theirs.loss(theirs(batch), batch)["casl"], 0.5 * together)


def test_padding_enters_no_loss_of_the_authors():
    batch, head = uneven_pairs(), make(authors=True)
    rest = torch.where(batch.mask[..., None], batch.streams["rgb"], torch.full((8,), 3.0))
    other = SnippetBatch({"rgb": rest}, batch.mask, batch.labels)
    left, right = head(batch), head(other)
    assert not torch.allclose(left.cas, right.cas)
    torch.testing.assert_close(head.loss(left, batch), head.loss(right, other))


def test_a_video_is_scored_by_its_highest_eighth_rounded_up():
    batch = uneven_pairs()
    output = make()(batch)
    for i, length in enumerate(batch.lengths.tolist()):
        highest = output.cas[i, :length].topk(-(-length // 8), dim=0).values.mean(dim=0)
        torch.testing.assert_close(output.video_scores[i], highest.softmax(dim=0))
