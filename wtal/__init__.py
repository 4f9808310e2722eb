"""Weakly-supervised temporal action localization: raw videos in, detections out, from video-level labels only.

The functions are those of `wtal.api`, and load what they need when they are first used.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["__version__", "detect", "evaluate", "extract", "load", "open_store", "run", "train"]

if TYPE_CHECKING:
    from wtal.api import detect, evaluate, extract, load, open_store, run, train

    __version__: str
else:  # unseen by type checkers, to whom every name would be there

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'wtal' has no attribute {name!r}")
        if name == "__version__":
            from wtal.version import installed_version

            return installed_version()
        from wtal import api

        return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
