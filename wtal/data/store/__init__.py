"""The feature store: `reader` opens a published one, `writer` makes one, `part`, `index` and shards are its files."""

from wtal.data.store.reader import Features, FeatureStore, VideoFeatures, describe

__all__ = ["FeatureStore", "Features", "VideoFeatures", "describe"]
