"""The feature store: `reader` opens a published one, `writer` creates one; its files are parts, an index and shards."""

from wtal.data.store.reader import Features, FeatureStore, VideoFeatures, describe

__all__ = ["FeatureStore", "Features", "VideoFeatures", "describe"]
