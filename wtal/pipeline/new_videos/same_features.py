"""Rebuild the extractor of a store's features from the store's identity; refuse if its features would differ.

Differences in library versions alone are reported but not refused, as they depend on the machine.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtal.data.store.writer import difference
from wtal.errors import UsageError, WeightsError, WtalError
from wtal.extractors.backbones import BACKBONES, full_name
from wtal.extractors.decoding.reader import REFERENCE
from wtal.extractors.execution.config import ExtractConfig
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.sources import Sources

if TYPE_CHECKING:
    from wtal.extractors.execution.extractor import Extractor

_OF_AN_EXTRACTOR = {"backbone", "weights", "flow", "reader", "fps", "stride", "span", "tail", "dtype"}
_LIBRARIES = {"library", "runtime", "numba", "opencv", "torch", "triton"}
"""Keys of an identity that name a library; the value of `library` and `runtime` is its name and version."""


def same_extractor(
    identity: Mapping[str, Any], sources: Sources, weights: Sequence[str], machine: Machine
) -> "tuple[Extractor, list[str]]":
    """Return an extractor for the features of an `identity`, and a line for each library of another version.

    `weights` are options as in `wtal extract`; they take precedence over `sources`, the recorded origins of weights.

    Raises:
        UsageError: when the features were not made by an extractor of this program.
        WeightsError: when weights are missing or different.
        WtalError: when this machine lacks something, or its features would differ; the message names the cause.
    """
    from wtal.extractors.execution.extractor import Extractor
    from wtal.pipeline.extraction.extract import make_spec

    _refuse_foreign(identity)
    try:
        config = config_of(identity, sources)
        pairs = _weights(identity, config, sources, weights)
        extractor = Extractor(make_spec(config, pairs, machine))
        own_identity = json.loads(json.dumps(extractor.identity))
    except (WtalError, ImportError) as error:
        kind = type(error) if isinstance(error, WtalError) else WtalError
        raise kind(f"{_named(identity)} cannot be made here: {error}") from None
    notes = []
    for path, there, here in _differences(_in_todays_terms(identity), own_identity):
        if not _is_version(path, there, here):
            _refuse(identity, path, there, here)
        notes.append(f"{'.'.join(path)} is {_shown(here)} here, but {_shown(there)} for the model's features")
    return extractor, notes


def config_of(identity: Mapping[str, Any], sources: Sources = Sources()) -> ExtractConfig:  # noqa: B008 - frozen
    """Return the settings of extraction that reproduce the features of an identity."""
    networks, flow = identity["weights"], identity["flow"]
    first: Mapping[str, Any] = next(iter(networks.values()), {})
    name, reader = _backbone(str(identity["backbone"]), sources), str(_in_todays_terms(identity)["reader"]["policy"])
    return ExtractConfig.parse(
        {
            "backbone": name,
            "streams": tuple(stream for stream in BACKBONES.load(name).STREAMS if stream in networks),
            "flow": f"{flow['name']}:{flow['implementation']}" if flow else "",
            "reader": reader,
            "fps": identity["fps"],
            "stride": identity["stride"],
            "tail": identity["tail"],
            "zero": identity.get("zero", "file"),
            "dtype": identity["dtype"],
            "crops": identity.get("crops", 1),
            "runtime": str(first.get("runtime", "torch")).partition(" ")[0],
            "precision": first.get("precision", "float32"),
        },
        "the features of the model",
    )


def _backbone(name: str, sources: Sources) -> str:
    """Return a backbone's name, with the path of its folder if that is known and exists."""
    variant, folder = name.partition(":")[2], Path(sources.backbone.partition(":")[2])
    return sources.backbone if variant and folder.is_dir() and folder.name == variant else name


def _refuse_foreign(identity: Mapping[str, Any]) -> None:
    if lacking := _OF_AN_EXTRACTOR - identity.keys():
        how = "merged from several stores" if "merged" in identity else "not extracted by wtal from videos"
        raise UsageError(
            f"the model's features ({identity.get('backbone', 'unknown')}) were {how} (their identity has no "
            f"{min(lacking)}), so those of a new video cannot be computed; train on a store of wtal extract"
        )


def _weights(
    identity: Mapping[str, Any], config: ExtractConfig, sources: Sources, given: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """Return (stream, source) pairs; a stream that is left out uses the backbone's default weights."""
    from wtal.pipeline.extraction.weights_options import share_out

    name = full_name(config.backbone)
    streams = tuple(identity["weights"])
    chosen = dict(share_out(given, {name: streams})[name]) if given else {}
    for stream in streams:
        weights_identity = identity["weights"][stream].get("weights")
        if stream in chosen or not weights_identity:
            continue
        if "random" in weights_identity:
            chosen[stream] = f"random:{weights_identity['random']}"
        elif source := _source(name, stream, str(weights_identity.get("sha256", "")), sources):
            chosen[stream] = source
    return tuple(sorted(chosen.items()))


def _source(name: str, stream: str, sha256: str, sources: Sources) -> str:
    """Return the source of weights: as recorded, in the folder of weights, or the published ones present here."""
    from wtal.extractors.weights.published import load_weights, weights_folder

    published = BACKBONES.load(name).WEIGHTS
    recorded = sources.weights.get(stream, "")
    if recorded in published or Path(recorded).is_file():
        return recorded
    kind, colon, path = recorded.rpartition(":")
    if recorded and (file := weights_folder() / Path(path).name).is_file():
        return f"{kind}{colon}{file}"
    if recorded:
        raise WeightsError(
            f"weights of {stream} (sha256 {sha256[:12]}..) came from {recorded}, which is not here; put "
            f"{Path(path).name} into {weights_folder()}, or name it with --weights {stream}=PATH"
        )
    for candidate, weights in published.items():
        here = weights.stream == stream and weights.location(weights_folder()).is_file()
        if here and load_weights(candidate, published, stream, variant=weights.variant)[1]["sha256"] == sha256:
            return candidate
    return ""


def _in_todays_terms(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace the reader `auto` of earlier versions, which chose among readers with the frames of `pyav`."""
    reader = identity["reader"]
    if not str(reader["policy"]).startswith("auto"):
        return identity
    versions = {REFERENCE: reader.get("versions", {}).get(REFERENCE)}
    return {**identity, "reader": {"policy": REFERENCE, "versions": versions}}


def _differences(there: Any, here: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the path and both values of each difference between two JSON values."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            yield from _differences(there.get(key), here.get(key), (*path, key))
    elif there != here:
        yield path, there, here


def _is_version(path: tuple[str, ...], there: Any, here: Any) -> bool:
    """Return whether a difference concerns only the version of a library."""
    if path[:2] == ("reader", "versions"):
        return True
    if path[-1] not in _LIBRARIES or not (isinstance(there, str) and isinstance(here, str)):
        return False
    return path[0] == "flow" or there.partition(" ")[0] == here.partition(" ")[0]


def _refuse(identity: Mapping[str, Any], path: tuple[str, ...], there: Any, here: Any) -> None:
    if path[0] == "weights" and path[2:3] == ("weights",):
        raise WeightsError(
            f"{_named(identity)} cannot be made here: its weights of {path[1]} have sha256 {_shown(there)}, those "
            f"here {_shown(here)}; pass the right ones with --weights {path[1]}=PATH"
        )
    where = difference(there, here, ".".join(path))
    raise WtalError(f"{_named(identity)} cannot be made here: {where}; use the version of wtal that made the model")


def _shown(value: Any) -> str:
    return "none" if value is None else f"{str(value)[:16]}.." if len(str(value)) > 40 else str(value)


def _named(identity: Mapping[str, Any]) -> str:
    return f"the model's features ({identity['backbone']})"
