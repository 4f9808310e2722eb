"""Content of a figure: its axes' labels, and its bars in seconds."""


def ylabels(figure):
    return [axes.get_ylabel() for axes in figure.axes]


def bars(axes):
    """Bars as (start, end, filled), in seconds."""
    return [
        (patch.get_x(), patch.get_x() + patch.get_width(), patch.get_facecolor() == patch.get_edgecolor())
        for patch in axes.patches
    ]
