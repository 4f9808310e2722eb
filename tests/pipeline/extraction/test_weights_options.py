"""Options for weights, distributed to backbones and streams."""

import pytest

from wtal.errors import UsageError
from wtal.pipeline.extraction.weights_options import share_out

BOTH = ("rgb", "flow")
I3D = {"i3d": BOTH}
TWO = {"i3d": BOTH, "csn:r101": ("rgb",)}


@pytest.mark.parametrize(
    ("given", "backbones", "found"),
    [
        ([], I3D, {"i3d": ()}),
        (["random:0"], I3D, {"i3d": (("flow", "random:0"), ("rgb", "random:0"))}),
        (["rgb=a.pt", "flow=b.pt"], I3D, {"i3d": (("flow", "b.pt"), ("rgb", "a.pt"))}),
        (["csn=c.pt", "i3d/rgb=a.pt"], TWO, {"i3d": (("rgb", "a.pt"),), "csn:r101": (("rgb", "c.pt"),)}),
        (["csn:r101=c.pt", "rgb=a.pt"], TWO, {"i3d": (("rgb", "a.pt"),), "csn:r101": (("rgb", "c.pt"),)}),
        (["flow=b.pt"], TWO, {"i3d": (("flow", "b.pt"),), "csn:r101": ()}),
        (["runs/a=b/w.pt"], {"csn:r101": ("rgb",)}, {"csn:r101": (("rgb", "runs/a=b/w.pt"),)}),
        (["hf:a/b=w.pt"], {"hf:a/b": ("rgb",)}, {"hf:a/b": (("rgb", "w.pt"),)}),
        (["hf:a/b/rgb=w.pt"], {"hf:a/b": ("rgb",)}, {"hf:a/b": (("rgb", "w.pt"),)}),
    ],
)
def test_options_reach_those_they_name(given, backbones, found):
    assert share_out(given, backbones) == found


def test_what_is_said_of_one_wins_over_what_is_said_of_all_in_any_order():
    for given in (["i3d/rgb=a.pt", "random:1"], ["random:1", "i3d/rgb=a.pt"]):
        assert share_out(given, TWO)["i3d"] == (("flow", "random:1"), ("rgb", "a.pt"))
        assert share_out(given, TWO)["csn:r101"] == (("rgb", "random:1"),)


@pytest.mark.parametrize(
    ("given", "backbones", "said"),
    [
        (["random:0", "i3d/flwo=real.pt"], I3D, "did you mean 'flow'"),
        (["csn:ir152=c.pt"], {"csn:r101": ("rgb",)}, "none of the backbones of this call: csn:r101"),
        (["slowfast/rgb=x.pt"], I3D, "none of the backbones"),
        (["slowfast:r50/flow=x.pt"], {"slowfast:r50": ("rgb",)}, "no stream 'flow'"),
        (["flow=x.pt"], {"csn:r101": ("rgb",)}, "none of the backbones"),
        (["csn/epoch=3.ckpt"], {"csn:r101": ("rgb",)}, "no stream 'epoch'"),
        (["rbg=a.pt"], I3D, "rbg is neither a stream nor a backbone, and rbg=a.pt is not a file; did you mean 'rgb'"),
        (["foo/flow=random:0"], I3D, "foo/flow is neither"),
        (["a.pt", "b.pt"], I3D, "leave one out"),
        (["i3d=a.pt", "i3d=b.pt"], I3D, "leave one out"),
    ],
)
def test_what_is_for_nobody_is_refused(given, backbones, said):
    with pytest.raises(UsageError, match=said):
        share_out(given, backbones)


def test_a_file_is_a_source_whatever_its_name_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "csn").mkdir()
    (tmp_path / "csn" / "epoch=3.ckpt").touch()
    assert share_out(["csn/epoch=3.ckpt"], {"csn:r101": ("rgb",)}) == {"csn:r101": (("rgb", "csn/epoch=3.ckpt"),)}
