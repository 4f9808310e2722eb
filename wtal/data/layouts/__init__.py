"""Layouts of published features, one file each; `read` gives (video, {stream: (T, D)}) in the order of the file."""
