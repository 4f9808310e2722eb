"""Laws of every rescorer: padding, neighbours, videos without proposals, gradients, seeds."""

import pytest
import torch

from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError, UsageError
from wtal.models import create_rescorer
from wtal.models.rescorer import ProposalBatch
from wtal.models.rescorers import RESCORERS

NAMES = RESCORERS.names()
LENGTHS, COUNTS = (61, 17, 33, 1, 8), (40, 9, 0, 1, 3)
DIMS = {"rgb": 8, "flow": 6}


def make(name, dims=DIMS, **settings):
    torch.manual_seed(0)
    return create_rescorer(name, 3, dims, **{"width": 16, "head_width": 12, **settings}).eval()


def proposals_of(video):
    generator = torch.Generator().manual_seed(video)
    return torch.rand(COUNTS[video], 2, generator=generator).double().sort(dim=1).values * LENGTHS[video]


def batch_of(videos, dims=DIMS, garbage=0.0, kind=torch.float64):
    """Batch of videos by number, with `garbage` as padding."""
    lengths = torch.tensor([LENGTHS[video] for video in videos])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    streams = {}
    for name, width in dims.items():
        streams[name] = torch.full((*mask.shape, width), garbage, dtype=kind)
        for row, video in enumerate(videos):
            generator = torch.Generator().manual_seed(100 * width + video)
            streams[name][row, : LENGTHS[video]] = torch.rand(LENGTHS[video], width, generator=generator).to(kind)
    labels = torch.tensor([[video % 2 == 0, video % 3 == 0, True] for video in videos]).float()
    return ProposalBatch.collate(
        SnippetBatch.from_features(streams, labels, mask), [proposals_of(video).to(kind) for video in videos]
    )


@pytest.mark.parametrize("authors", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_video_in_a_batch_equals_the_video_alone(name, authors):
    """Compute in double precision, so that rounding hides nothing."""
    network = make(name, authors=authors).double()
    with torch.no_grad():
        together = network(batch_of(range(5), garbage=7.0))
        for video, scores in enumerate(together.scores.split(COUNTS)):
            alone = network(batch_of([video]))
            torch.testing.assert_close(alone.scores, scores, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(alone.video_scores[0], together.video_scores[video], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_mean_over_videos_that_have_proposals(name):
    network = make(name).double()
    batch = batch_of(range(5), garbage=7.0)
    together = network.loss(network(batch), batch, 0.5)
    singles = [network.loss(network(one), one, 0.5) for one in (batch_of([video]) for video in (0, 1, 3, 4))]
    for term, value in together.items():
        mean = torch.stack([each[term] for each in singles]).mean()
        assert value.item() == pytest.approx(mean.item(), rel=1e-5), term


@pytest.mark.parametrize("name", NAMES)
def test_without_a_proposal_there_is_neither_answer_nor_loss(name):
    network, batch = make(name), batch_of([2], kind=torch.float32)
    output = network(batch)
    assert output.scores.shape == (0, 3)
    assert not output.video_scores.any()
    terms = network.loss(output, batch, 1.0)
    assert all(term.item() == 0 for term in terms.values())
    sum(terms.values()).backward()


@pytest.mark.parametrize("name", NAMES)
def test_answers_have_their_shapes(name):
    output = make(name)(batch_of(range(5), kind=torch.float32))
    assert output.scores.shape == (sum(COUNTS), 3)
    assert output.video_scores.shape == (5, 3)
    for values in (output.scores, output.video_scores):
        assert values.isfinite().all()
        assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name):
    network, batch = make(name).train(), batch_of(range(5), kind=torch.float32)
    sum(network.loss(network(batch), batch, 1.0).values()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dims", [{"both": 5}, {"rgb": 4, "flow": 4, "sound": 3}])
def test_any_number_of_streams(name, dims):
    network, batch = make(name, dims), batch_of([0, 1], dims, kind=torch.float32)
    terms = network.loss(network(batch), batch, 1.0)
    assert all(term.isfinite() for term in terms.values())
    sum(terms.values()).backward()


@pytest.mark.parametrize("name", NAMES)
def test_more_than_a_thousand_proposals(name):
    network, batch = make(name), batch_of([0], kind=torch.float32)
    many = torch.rand(1500, 2, generator=torch.Generator().manual_seed(3)).sort(dim=1).values * LENGTHS[0]
    batch = ProposalBatch.collate(batch.snippets, [many])
    output = network(batch)
    assert output.scores.shape == (1500, 3)
    assert all(term.isfinite() for term in network.loss(output, batch, 1.0).values())


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_makes_the_same_network(name):
    first, second = make(name).state_dict(), make(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="there is no rescorer 'pmill'; did you mean 'pmil'"):
        create_rescorer("pmill", 3, DIMS)
    with pytest.raises(UsageError, match="at least one class"):
        create_rescorer("pmil", 0, DIMS)
    with pytest.raises(ConfigError, match="unknown key 'wdth'"):
        create_rescorer("pmil", 3, DIMS, wdth=3)
    with pytest.raises(UsageError, match="lack 'flow'"):
        make("pmil")(batch_of([0], {"rgb": 8}, kind=torch.float32))
