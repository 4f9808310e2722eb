"""RSKP against its authors' numbers, its memory, its switches, and other heads in place of its network."""

import json

import numpy as np
import pytest
import torch

from tests.support.reference import SHARED, needs_shared, reference_normal, reference_weights
from tests.support.rskp import DIMS, batch_of, batch_of_one, close, fill, head_of
from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError, WeightsError, WtalError
from wtal.models import create_head, load_author_checkpoint
from wtal.models.head import HeadOutput, Moment
from wtal.models.layers import buckets
from wtal.pipeline.recipe import load_recipe

WEIGHTS = {"cls_fore": 1.0, "cls_back": 0.2, "att": 0.1, "spl": 1.0}


def reference(name):
    folder = SHARED / "reference" / "heads"
    facts = json.loads((folder / f"{name}.json").read_text())
    return facts, np.load(folder / f"{name}.npz")


def authors_head():
    facts, arrays = reference("rskp")
    weights = {key: torch.from_numpy(value) for key, value in reference_weights(facts["state"]).items()}
    features = torch.from_numpy(np.abs(reference_normal("input:rskp", tuple(facts["shape"]))) * 0.4)
    labels = torch.from_numpy(arrays["labels"]).float()
    streams = {"rgb": features[..., :1024], "flow": features[..., 1024:]}
    return load_author_checkpoint("rskp", weights, 20), SnippetBatch.from_features(streams, labels)


@needs_shared
def test_forward_and_losses_equal_the_authors():
    facts, arrays = reference("rskp")
    head, batch = authors_head()
    output = head(batch)
    for name in set(arrays) - {"labels"}:
        close(output.extras[name], arrays[name])
    close(output.cas, arrays["o_cas"])
    close(output.attention, arrays["o_att"])
    close(output.video_scores, (0.6 * arrays["o_ca"] + 0.4 * arrays["m_ca"])[:, :20])
    losses = head.loss(output, batch)
    assert losses.keys() == WEIGHTS.keys()
    for name, value in losses.items():
        assert value.item() == pytest.approx(facts["losses"][name] * WEIGHTS[name], rel=1e-5), name
    assert sum(v.item() for v in losses.values()) == pytest.approx(facts["losses"]["total_warmup"], rel=1e-5)


@needs_shared
def test_the_memory_phase_equals_the_authors():
    facts, arrays = reference("rskp_memory")
    head, both = authors_head()
    batch = SnippetBatch.from_features({s: x[:1] for s, x in both.streams.items()}, both.labels[:1])
    stored = torch.from_numpy(np.abs(reference_normal("rskp:memory", (1, 5, 2048))) * 0.4)
    head.memory.features[batch.labels[0] > 0] = stored
    head.memory.filled.fill_(1)
    output = head(batch)
    for name in arrays:
        close(output.extras[name], arrays[name])
    losses = head.loss(output, batch)
    for name, value in losses.items():
        weight = {**WEIGHTS, "spl": 0.5}[name]
        assert value.item() == pytest.approx(facts["losses"][name] * weight, rel=1e-5), name
    assert sum(v.item() for v in losses.values()) == pytest.approx(facts["losses"]["total_memory"], rel=1e-5)


@needs_shared
def test_the_authors_answer_without_labels_is_fused():
    head, batch = authors_head()
    with_labels = head(batch)
    probabilities = head(SnippetBatch(batch.streams, batch.mask)).cas.softmax(dim=-1)
    parts = with_labels.extras["o_cas"].softmax(dim=-1), with_labels.extras["m_cas"].softmax(dim=-1)
    torch.testing.assert_close(probabilities, 0.6 * parts[0] + 0.4 * parts[1])


def test_checkpoints_of_other_shapes_and_class_counts_load():
    state = {"mu": (3, 10), "ac_center": (6, 10), "fg_center": (1, 10)}
    state |= {"feature_embedding.0.weight": (10, 7), "feature_embedding.0.bias": (10,)}
    weights = {f"module.{key}": torch.rand(shape) for key, shape in state.items()}
    head = load_author_checkpoint("rskp", weights, num_classes=5)
    assert head(SnippetBatch.from_features({"x": torch.rand(2, 4, 7)})).cas.shape == (2, 4, 6)
    del weights["module.fg_center"]
    with pytest.raises(WeightsError, match=r"unknown classifier; missing fg_center"):
        load_author_checkpoint("rskp", {**weights, "classifier": torch.zeros(1)}, num_classes=5)


def test_evaluation_fuses_and_training_does_not():
    head, batch = head_of(dropout=0.0), batch_of()
    trained, tested = head.train()(batch), head.eval()(batch)
    torch.testing.assert_close(trained.cas, trained.extras["o_cas"])
    mixed = 0.6 * tested.extras["o_cas"].softmax(-1) + 0.4 * tested.extras["m_cas"].softmax(-1)
    torch.testing.assert_close(tested.cas.softmax(-1), mixed)
    torch.testing.assert_close(
        tested.video_scores, 0.6 * tested.extras["o_video_scores"] + 0.4 * tested.extras["m_video_scores"]
    )


@pytest.mark.parametrize("authors", [False, True])
def test_the_memory_phase_of_a_batch_is_the_mean_over_its_videos(authors):
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0]])
    head, batch = fill(head_of(authors=authors, memory_slots=9), [batch_of(seed=3)]).eval(), batch_of(labels=labels)
    together = head.loss(head(batch), batch)
    parts = [batch_of_one(batch, i) for i in range(3)]
    alone = [head.loss(head(one), one) for one in parts]
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([terms[name] for terms in alone]).mean())


SWITCHES = [
    {"mil": "scores"},
    {"summary": "discriminative"},
    {"summary": "k_means"},
    {"summary": "agglomerative"},
    {"summary": "spectral"},
    {"summary": "snippets"},
    {"mu_init": "orthogonal"},
    {"n_mu": 3},
    {"em_iterations": 1},
    {"em_scale": 1.0},
    {"extremes": 1},
    {"region": "foreground"},
    {"region": "background"},
    {"propagation": "iterated"},
    {"propagation": "alternated"},
    {"propagation": "single"},
    {"propagation": "scores"},
    {"w": 0.1},
    {"distill": "l1"},
    {"distill": "l2"},
    {"temperature": 1.0},
    {"pseudo_weight": 0.5},
    {"intra_weight": 0.0},
    {"mil_weight": 0.1},
    {"attention_weight": 0.0},
    {"scale": 10.0},
    {"top_k_ratio": 2},
]


@pytest.mark.parametrize("settings", SWITCHES, ids=lambda s: "-".join(f"{k}={v}" for k, v in s.items()))
def test_each_switch_changes_the_loss_and_leaves_no_parameter_idle(settings):
    if any("means" in str(v) or v in ("agglomerative", "spectral") for v in settings.values()):
        pytest.importorskip("sklearn")
    batch, losses = batch_of((20, 13, 2)), []
    for chosen in ({}, settings):
        head = head_of(branches="intra", dropout=0.0, **chosen)
        terms = head.loss(head(batch), batch)
        losses.append(torch.stack(list(terms.values())).sum())
        assert torch.isfinite(losses[-1])
    losses[1].backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert losses[0] != losses[1]


def test_fixed_means_are_no_parameters():
    batch = batch_of()
    learned, fixed = head_of(), head_of(summary="em_fixed")
    names = {name for name, _ in learned.named_parameters()} - {name for name, _ in fixed.named_parameters()}
    assert names == {"representatives.mu"}
    torch.testing.assert_close(learned.eval()(batch).cas, fixed.eval()(batch).cas)
    start = head_of(summary="em_fixed", mu_init="orthogonal").representatives.mu
    torch.testing.assert_close(start @ start.T, torch.eye(4))


@pytest.mark.parametrize("summary", ["k_means", "agglomerative", "spectral"])
def test_clusterings_find_clusters_that_are_there(summary):
    pytest.importorskip("sklearn")
    centres = torch.eye(3, 16) * 5
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[1, 2:] = False
    x = (centres.repeat(10, 1) + 0.01 * torch.rand(2, 30, 16)) * mask[..., None]
    found = head_of(summary=summary, n_mu=3).representatives(x, mask, mask.float())
    assert found.present.tolist() == [[True] * 3, [True, True, False]]
    assert (torch.cdist(found.features[0], centres).argmin(dim=1).sort().values == torch.arange(3)).all()
    assert torch.cdist(found.features[0], centres).amin(dim=1).max() < 0.1


def test_the_direct_solve_is_the_closed_form():
    batch = batch_of()
    left, right = (head_of(propagation=form).eval()(batch).extras["m_cas"] for form in ("closed", "direct"))
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


def test_branches_and_terms_that_are_off_are_absent():
    batch = batch_of()
    head = head_of(branches="main")
    assert [name for name, _ in head.named_parameters() if "mu" in name] == []
    output = head(batch)
    assert not [name for name in output.extras if name.startswith(("m_", "r_"))]
    assert head.loss(output, batch).keys() == {"cls_fore", "cls_back", "att"}
    bare = head_of(branches="intra", pseudo_weight=0.0, mil_weight=0.0, attention_weight=0.0)
    assert bare.loss(bare(batch), batch).keys() == {"cls_fore"}
    scores = head_of(branches="intra", propagation="scores").eval()
    main = head_of(branches="main").eval()
    left, right = (one.loss(one(batch), batch)["cls_fore"] for one in (scores, main))
    torch.testing.assert_close(left, right)


def test_pseudo_labels_teach_the_main_branch_alone():
    head, batch = head_of(branches="intra").train(), batch_of()
    head.loss(head(batch), batch)["spl"].backward()
    assert head.representatives.mu.grad is None or not head.representatives.mu.grad.any()


def test_early_fusion_has_one_branch_for_both():
    batch = batch_of()
    head = fill(head_of(memory_fusion="concat").eval(), [batch_of(seed=4)])
    output = head(batch)
    assert "r_cas" not in output.extras
    assert not torch.allclose(output.extras["m_cas"], head_of().eval()(batch).extras["m_cas"])


def test_test_branches():
    batch = batch_of()
    plain = SnippetBatch(batch.streams, batch.mask)
    main, intra, inter = (fill(head_of(test_branches=b).eval(), [batch]) for b in ("main", "intra", "all"))
    torch.testing.assert_close(main(plain).cas, main(batch).extras["o_cas"])
    assert not torch.allclose(main(plain).cas, intra(plain).cas)
    assert not torch.allclose(intra(plain).cas, inter(plain).cas)
    torch.testing.assert_close(inter(plain).cas, inter(batch).cas)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"summary": "snippets"}, "leaves nothing to remember"),
        ({"summary": "k_means", "memory": "video"}, "set head.summary to em or em_fixed"),
        ({"propagation": "scores", "distill": "l1"}, "updates no features"),
        ({"base": "basnet"}, "take stpn, bm, um, facnet or wtalc"),
        ({"base": "facnet", "region": "foreground"}, "'facnet' has no attention"),
        ({"base": "wtalc", "extremes": 1}, "'wtalc' has no attention"),
        ({"base": "nothing"}, "there is no head 'nothing'"),
        ({"w": 1.0}, "w: wanted a number .*below 1, got 1.0"),
        ({"n_mu": 0}, "n_mu: wanted a whole number of at least 1, got 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(WtalError, match=message):
        head_of(**settings)


@pytest.mark.parametrize("base", ["stpn", "bm", "um", "facnet"])
@pytest.mark.parametrize("authors", [False, True])
def test_it_is_laid_on_other_heads(base, authors):
    batch = batch_of((20, 20, 20) if authors else (20, 13, 9))
    head = head_of(authors=authors, base=base, temperature=1.0, main_terms=())
    own = head.base.loss(head.base.eval()(batch), batch)
    output = head.eval()(batch)
    torch.testing.assert_close(output.extras["o_cas"], head.base(batch).cas)
    fused = 0.6 * output.extras["o_cas"] + 0.4 * output.extras["m_cas"]
    torch.testing.assert_close(head(SnippetBatch(batch.streams, batch.mask)).cas, fused)
    assert head.loss(output, batch).keys() == {*own, "spl"}
    fill(head, [batch_of_one(batch, i) for i in range(3)]).train()
    output = head(batch)
    terms = head.loss(output, batch)
    assert "r_cas" in output.extras
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in head.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_terms_of_the_main_branch_alone():
    batch = batch_of()
    both, main = (head_of(main_terms=terms).eval() for terms in ((), ("att", "cls_back")))
    for name, factor in (("att", 1), ("cls_back", 1), ("cls_fore", None)):
        left, right = (head.loss(head(batch), batch)[name] for head in (both, main))
        assert torch.allclose(left, right) == (factor is None)
    head = head_of(main_terms=("atts",))
    with pytest.raises(ConfigError, match="no term 'atts'; did you mean 'att'"):
        head.loss(head(batch), batch)


def test_parts_of_like_length_are_the_batch(monkeypatch):
    """Process wide features of many videos in parts, with the same output, loss and gradient."""
    batch, results = batch_of((20, 5, 13, 20, 9), labels=torch.eye(3)[[0, 1, 2, 0, 1]]), []
    for numbers in (10**9, 16 * 25):
        monkeypatch.setattr(buckets.split, "__defaults__", (numbers,))
        head = fill(head_of(), [batch_of(seed=5)]).eval()
        output = head(batch)
        terms = head.loss(output, batch)
        torch.stack(list(terms.values())).sum().backward()
        results.append((len(buckets.split(batch, 16)), output, terms, head))
    (one, left, terms, head), (many, right, others, other) = results
    assert (one, many) == (1, 4)
    torch.testing.assert_close(left.cas * batch.mask[..., None], right.cas * batch.mask[..., None])
    assert left.extras.keys() == right.extras.keys()
    for name in ("mu", "m_ca", "r_video_scores", "o_att"):
        torch.testing.assert_close(left.extras[name], right.extras[name])
    torch.testing.assert_close(terms, others)
    for mine, theirs in zip(head.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_parts_keep_what_is_not_of_time_apart_from_what_is():
    batch = batch_of((4, 2, 4))
    parts = buckets.split(batch, 3, numbers=25)
    assert [part.tolist() for part in parts] == [[0, 2], [1]]
    asked = [buckets.part_of(batch, part, whole=i == 0) for i, part in enumerate(parts)]
    assert [one.mask.shape for one in asked] == [(2, 4), (1, 2)]
    assert [one.ids for one in asked] == [("video-0-0", "video-0-2"), ("video-0-1",)]
    said = [HeadOutput(one.streams["rgb"], None, one.labels, {"same": one.mask[:, :2]}) for one in asked]
    joined = buckets.merged(said, parts)
    torch.testing.assert_close(joined.cas, batch.streams["rgb"])
    torch.testing.assert_close(joined.video_scores, batch.labels)
    assert joined.extras["same"].all()


@pytest.mark.parametrize("filled", [False, True])
def test_half_precision_trains(filled):
    head, batch = head_of().train(), batch_of()
    if filled:
        fill(head, [batch]).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = head.loss(head(batch), batch)
    torch.stack([value.float() for value in terms.values()]).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_a_recipe_laid_on_anothers_head_keeps_its_settings(tmp_path):
    (tmp_path / "um.toml").write_text('[head]\nname = "um"\nwidth = 48\n[train]\nsteps = 7\n')
    head = ["head.name=rskp", "head.base=um"]
    recipe = load_recipe(str(tmp_path / "um.toml"), [*head, "head.base_settings.dropout=0.5"])
    assert recipe.head_settings == {"base": "um", "base_settings": {"width": 48, "dropout": 0.5}}
    assert recipe.train.steps == 7
    assert load_recipe(str(tmp_path / "um.toml"), [head[0]]).head_settings == {}
    assert load_recipe(str(tmp_path / "um.toml"), [head[0], "head.base=bm"]).head_settings == {"base": "bm"}


def test_it_is_laid_on_a_head_whose_extras_have_names_of_its_own():
    torch.manual_seed(0)
    head = create_head("rskp", 3, DIMS, base="wtalc", base_settings={"width": 16, "pairs": 0}, n_mu=4)
    output = head.train()(batch_of())
    terms = head.loss(output, batch_of())
    assert all(torch.isfinite(term) for term in terms.values())
    assert "spl" in terms


def test_too_few_rows_for_the_videos_are_told_before_the_first_step():
    head = head_of(memory="video", memory_videos=2)
    with pytest.raises(ConfigError, match="memory_videos = 2 is fewer than the training videos"):
        head.begin_step(Moment(0, 10, 0), lambda: iter([batch_of()]))


def test_the_main_branch_alone_costs_least():
    from wtal.models.cost import cost

    macs = []
    for branches in ("main", "intra", "all"):
        head = fill(head_of(test_branches=branches), [batch_of()])
        macs.append(cost(head, DIMS).macs)
    assert macs[0] < macs[1] < macs[2]
