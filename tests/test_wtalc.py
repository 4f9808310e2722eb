"""W-TALC against its authors' numbers, and its switches."""

import pytest
import torch

from tests.authors import assert_equal, assert_losses, reference
from tests.conftest import needs_shared
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
