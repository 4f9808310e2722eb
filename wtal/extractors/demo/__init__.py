"""The collection that `wtal demo` renders."""
