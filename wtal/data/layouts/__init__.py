"""Layouts of published features, one file each, as they come in and go out.

A leaf holds `FPS` and `STRIDE`, texts: frames a second and frames of a row of the published files, both empty where
rows are spread evenly over their video; `BACKBONE`, what made them; `sniff(path) -> bool`, whether files look like this
and like no other layout; `read(path, annotations, dims) -> list[Item]`, the videos in order; and
`write(folder, videos)`, which takes `Exported` videos into an empty folder. It may hold `name_of(id) -> str`, the name
of a video in the files. `wtal.data.layout` has what they share.
"""
