"""Optical flow: known motion, still pictures, the same bits each time, pictures of any size."""

import pickle
import types

import cv2
import numpy as np
import pytest

from tests.support.pictures import texture
from wtal.errors import UsageError, WtalError
from wtal.extractors.flow import FLOWS, create_flow, dis
from wtal.extractors.optical_flow import Implementation, extend_edges, resolve_flow
from wtal.extractors.tvl1 import opencv_cpu, opencv_cuda
from wtal.extractors.tvl1.parameters import MIN_SIDE, Parameters, pyramid

METHODS = [
    "tvl1:numba",
    "tvl1:opencv-contrib",
    "tvl1-fast:numba",
    "tvl1-fast:opencv-contrib",
    "dis:medium",
    "dis:fast",
    "dis:ultrafast",
]
TINY = [(1, 1), (2, 3), (8, 8), (1, 60), (60, 1), (8, 200), (11, 200), (31, 33), (16, 300)]


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(threads)


def flow_of(method, first, second):
    """Compute flow (H, W), (H, W) -> (H, W, 2) by a method's name or by an engine."""
    engine = create_flow(method).new() if isinstance(method, str) else method
    return engine(first[None], second[None])[0]


def moved(height, width, dx, dy):
    """Picture, and the same with its content moved dx to the right and dy down."""
    canvas = texture(height + 20, width + 20)
    return canvas[10 : 10 + height, 10 : 10 + width], canvas[10 - dy : 10 - dy + height, 10 - dx : 10 - dx + width]


@pytest.mark.parametrize("name", METHODS)
def test_a_texture_that_moves_gives_its_motion(name):
    flow = flow_of(name, *moved(96, 128, 3, -1))
    assert flow.shape == (96, 128, 2)
    assert flow.dtype == np.float32
    interior = flow[16:-16, 16:-16]
    tolerance = 0.4 if name.endswith("fast") else 0.1
    assert np.abs(np.median(interior, axis=(0, 1)) - (3, -1)).max() < tolerance
    assert np.linalg.norm(interior - np.float32((3, -1)), axis=-1).mean() < 2 * tolerance


@pytest.mark.parametrize("name", METHODS)
def test_a_still_picture_has_no_flow(name):
    picture = texture(64, 80)
    assert np.abs(flow_of(name, picture, picture)).max() < 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_same_bits_for_any_thread_count_engine_and_order(name):
    first, second = texture(48, 57), texture(48, 57, seed=1)
    method = create_flow(name)
    cv2.setNumThreads(1)
    expected = flow_of(method.new(), first, second)
    engine = method.new()
    for threads in (2, 8):
        cv2.setNumThreads(threads)
        flow_of(engine, texture(8, 8), texture(8, 8, seed=2))
        assert flow_of(engine, first, second).tobytes() == expected.tobytes()
        stack = engine(np.stack([second, first, first]), np.stack([first, second, first]))
        assert stack[1].tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", METHODS)
def test_every_size_works(name):
    engine = create_flow(name).new()
    for height, width in TINY:
        first, second = moved(height, width, 1, 0)
        flow = flow_of(engine, first, second)
        assert flow.shape == (height, width, 2)
        assert flow.flags.c_contiguous
        assert np.isfinite(flow).all(), (height, width)
        assert np.abs(flow).max() < 100, (height, width)
        assert np.abs(flow_of(engine, first, first)).max() < 1e-3, (height, width)


def test_a_small_picture_is_extended_by_its_edges():
    picture = np.array([[1, 2], [3, 4]], np.uint8)
    assert extend_edges(picture, 3).tolist() == [[1, 2, 2], [3, 4, 4], [3, 4, 4]]
    assert extend_edges(picture.T, 1).flags.c_contiguous
    assert extend_edges(np.zeros((2, 9), np.uint8), 4).shape == (4, 9)
    assert extend_edges(picture[None], 3).tolist() == [[[1, 2, 2], [3, 4, 4], [3, 4, 4]]]


def test_no_scale_is_lost_at_the_smallest_sides():
    algorithm = cv2.optflow.DualTVL1OpticalFlow_create()
    algorithm.calc(texture(MIN_SIDE, MIN_SIDE), texture(MIN_SIDE, MIN_SIDE, seed=1), None)
    assert algorithm.getScalesNumber() == len(pyramid(MIN_SIDE, MIN_SIDE, Parameters())) == 5
    for preset in ("medium", "fast", "ultrafast"):
        side = dis.create(preset).identity["min_side"]
        algorithm = cv2.DISOpticalFlow.create(dis._PRESETS[preset])
        finest = algorithm.getFinestScale()
        algorithm.calc(texture(side, side), texture(side, side, seed=1), None)
        assert algorithm.getFinestScale() == finest


def test_the_parameters_are_those_of_opencv():
    ours, default = opencv_cpu.Engine(Parameters())._algorithm, cv2.optflow.DualTVL1OpticalFlow_create()
    getters = [name for name in dir(default) if name.startswith("get") and name != "getDefaultName"]
    assert len(getters) == 12
    assert all(getattr(ours, name)() == getattr(default, name)() for name in getters)


def test_identities_tell_methods_apart():
    methods = [create_flow(name) for name in METHODS]
    assert len({str(method.identity) for method in methods}) == len(methods)
    for name, method in zip(METHODS, methods, strict=True):
        assert f"{method.name}:{method.implementation}" == name
        assert (method.identity["name"], method.identity["implementation"]) == (method.name, method.implementation)
        assert {"opencv", "numba"} & set(method.identity)
    assert create_flow("dis").identity == create_flow("dis:medium").identity


@pytest.mark.parametrize("name", METHODS)
def test_a_method_can_be_sent_to_a_worker(name):
    method = create_flow(name)
    copy = pickle.loads(pickle.dumps(method))
    assert copy == method
    first, second = moved(50, 50, 1, 1)
    assert (flow_of(copy.new(), first, second) == flow_of(method.new(), first, second)).all()


def test_unknown_names_are_refused_with_a_suggestion():
    assert {"tvl1", "tvl1-fast", "dis"} <= set(FLOWS.names())
    with pytest.raises(UsageError, match="did you mean 'medium'"):
        create_flow("dis:mediun")
    with pytest.raises(UsageError, match="did you mean 'opencv-cuda'"):
        create_flow("tvl1:opencv-cud")
    for name, choice in (("tvl1:", "numba"), ("dis:", "medium")):
        with pytest.raises(UsageError, match=f"has no implementation ''; choices: .*{choice}"):
            create_flow(name)
    with pytest.raises(UsageError, match="did you mean 'tvl1'"):
        create_flow("tvl2")


def test_an_implementation_that_cannot_run_says_why(monkeypatch):
    monkeypatch.delattr(cv2.cuda, "OpticalFlowDual_TVL1_create", raising=False)
    with pytest.raises(WtalError, match="tvl1:opencv-cuda cannot run here: this OpenCV build has no CUDA"):
        create_flow("tvl1:opencv-cuda")
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(WtalError, match=r"tvl1:opencv-contrib cannot run here: .*install opencv-contrib"):
        create_flow("tvl1:opencv-contrib")


def test_a_bare_name_takes_the_first_that_is_at_home_on_the_device():
    def one(name, reason, *kinds):
        return Implementation(lambda device: reason, lambda: {"seen": name}, lambda device: device, kinds, 64)

    table = {
        "card": one("card", None, "cuda"),
        "core": one("core", None, "cpu"),
        "torch": one("torch", None, "cpu", "cuda"),
    }
    assert resolve_flow("x", None, table).implementation == "core"
    assert resolve_flow("x", None, table, "cuda:1").implementation == "card"
    assert resolve_flow("x", None, table, "cuda:1").new() == "cuda:1"
    table["card"] = one("card", "no card", "cuda")
    assert resolve_flow("x", None, table, "cuda").implementation == "torch"
    only = {"card": table["card"], "core": table["core"]}
    assert resolve_flow("x", None, only, "cuda").implementation == "core"
    with pytest.raises(WtalError, match="x:card cannot run here: no card"):
        resolve_flow("x", "card", table, "cuda")
    with pytest.raises(WtalError, match="x:card cannot run here: no card; flow x:core cannot run here: no core"):
        resolve_flow("x", None, {"card": table["card"], "core": one("core", "no core", "cpu")}, "cuda")
    assert [len(resolve_flow("x", name, table).engines(3)) for name in ("core", "torch")] == [1, 1]
    assert len(create_flow("dis").engines(3)) == 3


def test_cuda_is_taken_where_there_is_one(monkeypatch):
    """Test our side of the CUDA implementation with a substitute that computes on the CPU."""

    class Matrix:
        def upload(self, array):
            self.array = array

        def download(self):
            return self.array

    class Algorithm:
        def __getattr__(self, name):
            assert name.startswith("set"), name
            return lambda value: settings.__setitem__(name, value)

        def calc(self, first, second, flow):
            assert flow is None
            result = Matrix()
            result.upload(cv2.DISOpticalFlow.create(2).calc(first.download(), second.download(), None))
            return result

    settings = {}
    chosen = []
    stand_in = types.SimpleNamespace(
        OpticalFlowDual_TVL1_create=Algorithm,
        getCudaEnabledDeviceCount=lambda: 2,
        GpuMat=Matrix,
        setDevice=chosen.append,
    )
    monkeypatch.setattr(cv2, "cuda", stand_in)
    method = create_flow("tvl1", "cuda:1")
    assert method.implementation == "opencv-cuda"
    with pytest.raises(WtalError, match="OpenCV finds 2 CUDA devices, but not cuda:2"):
        create_flow("tvl1:opencv-cuda", "cuda:2")
    assert create_flow("tvl1").implementation != "opencv-cuda"
    assert flow_of(method.new(), *moved(4, 4, 1, 0)).shape == (4, 4, 2)
    assert flow_of(method.new(), *moved(50, 70, 1, 0)).shape == (50, 70, 2)
    assert chosen == [1] * 4  # two engines are made, each is called once
    assert (settings["setTau"], settings["setNumScales"], settings["setNumIterations"]) == (0.25, 5, 300)
    stand_in.getCudaEnabledDeviceCount = lambda: 0
    with pytest.raises(WtalError, match="OpenCV finds no CUDA device"):
        create_flow("tvl1:opencv-cuda")


@pytest.mark.gpu
def test_opencv_cuda_agrees_with_the_known_motion(cuda):
    if opencv_cuda.why_not("cuda") is not None:
        pytest.skip("this OpenCV build has no CUDA optical flow")
    flow = flow_of("tvl1:opencv-cuda", *moved(96, 128, 3, -1))
    assert np.abs(np.median(flow[16:-16, 16:-16], axis=(0, 1)) - (3, -1)).max() < 0.1
