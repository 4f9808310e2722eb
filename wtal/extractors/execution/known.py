"""Names in the settings of extraction: of backbones and their streams, of flow methods and of readers."""

from wtal.config import about
from wtal.errors import UsageError
from wtal.extractors.backbones import BACKBONES, variant_of
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.flow import FLOWS
from wtal.extractors.readers import find_reader
from wtal.registry import suggest


def require_known(config: ExtractConfig) -> None:
    """Refuse a name that does not exist, before anything is loaded or decoded.

    Raises:
        ConfigError: naming the key, with the nearest name.
    """
    with about("extract.backbone"):
        variant_of(config.backbone)
    with about("extract.streams"):
        require_streams(config.backbone, config.streams)
    if config.flow:
        with about("extract.flow"):
            _require_flow(config.flow)
    with about("extract.reader"):
        find_reader(config.reader)


def require_streams(backbone: str, streams: tuple[str, ...]) -> None:
    """Refuse streams that a backbone does not have.

    Raises:
        UsageError: naming the first, with the nearest one.
    """
    known = BACKBONES.load(backbone).STREAMS
    for name in streams:
        if name not in known:
            raise UsageError(f"backbone {backbone} has no stream {name!r}; {suggest(name, known)}")


def _require_flow(name: str) -> None:
    leaf, colon, implementation = name.partition(":")
    known = FLOWS.load(leaf).IMPLEMENTATIONS
    if colon and implementation not in known:
        raise UsageError(f"flow {leaf} has no implementation {implementation!r}; {suggest(implementation, known)}")
