"""Kinds of files with their damages and commands, and calls with odd numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz.damage import bitten, miswritten, mixed, repacked, rewritten
from tests.fuzz.planted import STORE

Damage = Callable[[np.random.Generator, bytes], bytes]

TRAINED = "ws/runs/trained/seed-0"
DETECT = f"detect {TRAINED} --device cpu"
LABELS = "ws/annotations/planted.json"
IMPORT = "review import shown.json --videos videos"
STUDENT = "--set refine.train.steps=2 --set refine.student.width=16"
REPRODUCE = (
    f"reproduce activitynet-1.3 --features published/npy-per-video --annotations {LABELS} --methods basnet --seeds 0 "
    f"--set train.epochs=0 --set train.steps=2 --set head.width=4 --set head.filter_width=4 {STUDENT} --device cpu"
)


@dataclass(frozen=True)
class Kind:
    """Files by a pattern, damages, and commands in which `{}` is the file and `{folder}` its folder.

    `before` are patterns of files to remove first, so that the damaged file is read.
    """

    name: str
    pattern: str
    damages: tuple[Damage, ...]
    commands: tuple[str, ...]
    before: tuple[str, ...] = ()


KINDS = (
    Kind(
        "store index",
        f"{STORE}/index.json",
        (rewritten, miswritten),
        (
            "show {folder}",
            "show {folder} --json",
            f"{DETECT} --set localize.nms_tiou=0.4",
            "train recipe.toml --seeds 0 --device cpu",
            "export-features {folder} out --layout npy-per-video",
            "merge {folder} {folder}",
            "verify {folder}",
            "verify {folder} --drop",
            f"submit {TRAINED} --challenge hacs",
        ),
    ),
    Kind(
        "shard",
        f"{STORE}/*.npy",
        (),
        ("show {folder}", "train recipe.toml --seeds 5 --device cpu", "verify {folder}", "verify --drop --json"),
    ),
    Kind("failures", f"{STORE}/failures.json", (rewritten,), ("show {folder}", "show {folder} --json")),
    Kind("sources", f"{STORE}/sources.json", (rewritten,), (f"pack {TRAINED} m.wtal",)),
    Kind(
        "run record",
        f"{TRAINED}/run.json",
        (rewritten, rewritten, miswritten),
        (
            "show {folder}",
            "show {folder} --json",
            "detect {folder} --device cpu",
            "detect {folder} --device cpu --set localize.nms_tiou=0.4",
            "evaluate {folder}",
            "submit {folder} --challenge hacs",
            "tune {folder} --over nms_tiou=0.4 --out t.toml --device cpu",
            "pack {folder} m.wtal",
            "ensemble {folder} ws/runs/trained/seed-1 --device cpu",
            "export {folder} --to srt",
        ),
    ),
    Kind(
        "ensemble record",
        "ws/runs/*s/run.json",
        (rewritten, rewritten, miswritten),
        (
            "show {folder}",
            "detect {folder} --device cpu --set localize.nms_tiou=0.4",
            "evaluate {folder}",
            "submit {folder} --challenge hacs",
            "pack {folder} m.wtal",
            "ensemble {folder} ws/runs/trained/seed-1 --device cpu",
        ),
    ),
    Kind("finished", f"{TRAINED}/finished.json", (rewritten,), ("show {folder}", "evaluate {folder}")),
    Kind(
        "checkpoint",
        f"{TRAINED}/checkpoint-*.pt",
        (),
        ("detect {folder} --device cpu", "pack {folder} m.wtal"),
        (f"{TRAINED}/activations", f"{TRAINED}/detections"),
    ),
    Kind(
        "checkpoint of half a run",
        "ws/runs/basnet-*/seed-2/checkpoint-*.pt",
        (),
        ("train recipe.toml --seeds 2 --set title=half --device cpu",),
    ),
    Kind("stage", "ws/runs/staged/seed-0/stage-*.pt", (), ("detect {folder} --stage 0 --device cpu",)),
    Kind(
        "log",
        "ws/runs/basnet-*/seed-2/log.jsonl",
        (miswritten,),
        ("train recipe.toml --seeds 2 --set title=half --device cpu",),
    ),
    Kind(
        "activations",
        f"{TRAINED}/activations/index.json",
        (rewritten, miswritten),
        (DETECT, f"tune {TRAINED} --over nms_tiou=0.4 --out t.toml --device cpu", "show {folder}"),
    ),
    Kind(
        "activation shard",
        f"{TRAINED}/activations/*.npy",
        (),
        (f"{DETECT} --set localize.nms_tiou=0.4", f"verify {TRAINED} --drop"),
    ),
    Kind("part", "ws/runs/parts/seed-0/activations/parts/*.part", (), ("detect ws/runs/parts/seed-0 --device cpu",)),
    Kind(
        "pool",
        "ws/runs/detections/pool/*.json",
        (rewritten,),
        ("detect ws/runs/detections --device cpu --set localize.nms_tiou=0.4",),
    ),
    Kind(
        "detections",
        "found.json",
        (rewritten, rewritten, miswritten),
        (
            f"evaluate {{}} --annotations {LABELS}",
            f"evaluate {{}} --annotations {LABELS} --task proposals --json",
            "submit {} --challenge hacs --external-data none",
            f"submit --check {{}} --annotations {LABELS}",
            "show {}",
            "export {} --to srt,csv,boris,activitynet,elan,llc,youtube",
        ),
    ),
    Kind("detections of a run", f"{TRAINED}/detections/*.json", (rewritten,), (f"evaluate {TRAINED}",)),
    Kind("table of detections", "found.csv", (miswritten,), (f"evaluate {{}} --annotations {LABELS}", "show {}")),
    Kind(
        "classifications",
        "labels/scores.json",
        (rewritten,),
        (f"evaluate {{}} --annotations {LABELS} --task classification",),
    ),
    Kind(
        "annotations",
        "labels/*.*",
        (miswritten,),
        (
            "show {}",
            "evaluate found.json --annotations {}",
            "train recipe.toml --seeds 6 --device cpu --annotations {}",
            "run videos --labels {} --dry-run",
            "submit found.json --challenge hacs --annotations {} --external-data none",
        ),
    ),
    Kind(
        "annotations as JSON",
        LABELS,
        (rewritten,),
        ("show {}", f"evaluate {TRAINED}", "train recipe.toml --seeds 6 --device cpu"),
    ),
    Kind("annotations as arrays", "labels/arrays/*.npy", (), ("show {folder}",)),
    Kind("ambiguous", "labels/ambiguous.txt", (miswritten,), (f"evaluate {TRAINED} --ambiguous {{}}",)),
    Kind(
        "packed model",
        "*.wtal",
        (repacked, repacked, repacked),
        ("show {}", "show {} --json", "detect {} videos/clip.mp4 --device cpu"),
    ),
    Kind(
        "recipe",
        "recipe.toml",
        (miswritten, miswritten),
        ("train {} --dry-run", "run videos --labels labels/table.csv --recipe {} --dry-run"),
    ),
    Kind("preset", "preset.toml", (miswritten,), (f"detect {TRAINED} --set localize.preset={{}} --device cpu",)),
    Kind("authors' checkpoint", "authors.pt", (), ("import-checkpoint {} --head basnet",)),
    Kind("features", "published/npy-per-video/*/*.npy", (), ("import-features published/npy-per-video",)),
    Kind("features in tables", "published/csv-per-video/*.csv", (miswritten,), ("import-features {folder}",)),
    Kind("features in one file", "published/wtalc-joint/*.npy", (), ("import-features {}",)),
    Kind("features of HACS", "published/hacs-official/*", (), ("import-features {folder}",)),
    Kind("note of features", "published/*/wtal.json", (rewritten, miswritten), ("import-features {folder}",)),
    Kind("video", "videos/*", (), ("show {}",)),
    Kind(
        "verdicts",
        "ws/verdicts.json",
        (rewritten, miswritten),
        ("review", "review --next 3", "review annotations r.json", "train recipe.toml --seeds 8 --device cpu"),
    ),
    Kind("verdicts of the page", "page/verdicts.json", (rewritten,), (f"{IMPORT} {{}}",)),
    Kind(
        "corrections as JSON",
        "reviewed/*[!fv]",
        (rewritten, miswritten),
        (
            f"{IMPORT} {{}}",
            *(f"{IMPORT} {{}} --from {name}" for name in ("boris", "fiftyone", "label-studio", "llc")),
        ),
    ),
    Kind(
        "corrections as text",
        "reviewed/*.*",
        (miswritten,),
        tuple(f"{IMPORT} {{}} --from {name}" for name in ("boris", "elan", "losslesscut-csv")),
    ),
    Kind("annotations of BORIS", "reviewed/*.boris", (rewritten, miswritten), ("show {}",)),
)

SLOW_KINDS = (
    Kind("extracted video", "videos/*", (), ("extract videos --backbone motion --time-limit 5 --device cpu",)),
    Kind("diagnosed detections", "found.json", (rewritten,), (f"diagnose {{}} --annotations {LABELS}",)),
    Kind("diagnosed run", f"{TRAINED}/run.json", (rewritten,), ("diagnose {folder} --errors-only",)),
    Kind("checked run", LABELS, (rewritten,), (f"compare recipe.toml --refine {STUDENT} --device cpu", REPRODUCE)),
    Kind("reproduced features", "published/npy-per-video/*/*.npy", (), (REPRODUCE, f"{REPRODUCE} --dry-run")),
)
"""Kinds with commands that start processes, draw or train."""

NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "-1e9",
    "99999999999999999999",
    "99999999999",
    "",
    "x",
    "0",
    "1e308",
    "1_0",
    "٣",
)
"""Invalid numbers: no numbers, not finite, negative or out of all bounds."""

CALLS = (
    "train recipe.toml --seeds 7 --set head.width={} --device cpu",
    "train recipe.toml --seeds {} --device cpu",
    "train recipe.toml --seeds 0,{} --device cpu",
    "detect ws/runs/staged/seed-0 --stage {} --device cpu",
    "detect one.wtal --watch nowhere --interval {}",
    "detect one.wtal --watch nowhere --settle {}",
    "detect one.wtal nowhere --jobs {} --device cpu",
    "evaluate found.json --annotations ws/annotations/planted.json --tiou {}",
    "evaluate found.json --annotations ws/annotations/planted.json --tiou 0.1:0.5:{}",
    "evaluate found.json --annotations ws/annotations/planted.json --tiou 0.1:{}:0.1",
    "evaluate found.json --annotations ws/annotations/planted.json --against found.json --draws {}",
    "evaluate found.json --annotations ws/annotations/planted.json --against found.json --draws 5 --seed {}",
    "diagnose nothing --at {}",
    "diagnose nothing --seed {}",
    "submit found.json --challenge hacs --external-data none --max-per-video {}",
    "export found.json --to csv --min-score {}",
    "export found.json --to csv --merge {}",
    "export found.json --to csv --pad {}",
    "export found.json --to csv --top {}",
    "review --next {}",
    f"{IMPORT} reviewed/sound-proj.llc --min-score {{}}",
    "extract nowhere --time-limit {}",
    "extract nowhere --jobs {}",
    "extract nowhere --decoders {}",
    "extract nowhere --fps {}",
    "extract nowhere --stride {}",
    "extract nowhere --crops {}",
    "extract nowhere --weights random:{}",
    "import-features published/npy-per-video --fps {} --stride 16",
    "import-features published/npy-per-video --stride {} --fps 25",
    "import-features published/npy-per-video --dims rgb={}",
    f"merge {STORE} {STORE} --grid {{}}",
    "ensemble ws/runs/trained --weights {} --device cpu",
    f"ensemble {TRAINED} ws/runs/trained/seed-1 --weights 1,{{}} --device cpu",
    f"tune {TRAINED} --over nms_tiou={{}} --out t.toml --device cpu",
    f"tune {TRAINED} --over upsample={{}} --out t.toml --device cpu",
    "demo --seeds {} --device banana",
    "compare recipe.toml --seeds {} --device banana",
    "reproduce thumos14 --annotations labels/thumos.json --seeds {} --device banana",
)
"""Calls that contain a number."""


def settings() -> list[str]:
    """Return a call for each number in a recipe, except for lengths of training."""
    from wtal.models.heads import HEADS
    from wtal.models.localization.config import LocalizeConfig
    from wtal.models.training.config import TrainConfig

    train = [f"train.{key}" for key, value in TrainConfig() if _is_number(value) and key not in ("steps", "epochs")]
    localize = [f"localize.{key}" for key, value in LocalizeConfig() if _is_number(value)]
    heads = [(name, key) for name in HEADS.names() for key, value in HEADS.load(name).Config() if _is_number(value)]
    return [
        *(f"train recipe.toml --seeds 7 --set {key}={{}} --set train.steps=1 --device cpu" for key in train),
        *(f"detect {TRAINED} --set {key}={{}} --device cpu" for key in localize),
        *(f"train recipe.toml --set head.name={name} --set head.{key}={{}} --dry-run" for name, key in heads),
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def damaged(rng: np.random.Generator, kind: Kind) -> tuple[Path, str]:
    """Damage a file of a kind below the working directory; return it with a command that reads it."""
    files = sorted(path for path in Path().glob(kind.pattern) if path.is_file())
    file = files[rng.integers(len(files))]
    command = kind.commands[rng.integers(len(kind.commands))]
    file.write_bytes(mixed(rng, file.read_bytes(), *kind.damages) if kind.damages else bitten(rng, file.read_bytes()))
    return file, command.replace("{}", str(file)).replace("{folder}", str(file.parent))
