"""The collection rendered by `wtal demo`."""
