"""Settings that make a head small enough to learn planted actions in seconds."""

NARROW = {
    "stpn": {"embedding": 32, "attention_width": 16},
    "bm": {"embedding": 32, "attention_width": 16},
    "wtalc": {"width": 64},
    "basnet": {"width": 32, "filter_width": 16},
    "lgbm": {"width": 32, "attention_width": 16, "dropout": 0.3},
    "um": {"width": 64},
    "co2net": {"width": 64, "attention_width": 16},
    # At the paper's weight the first seed finds 0.72 of the planted actions, after as many steps.
    "ddgnet": {"width": 64, "attention_width": 16, "consistency_weight": 0.3},
    "delu": {"width": 64, "attention_width": 16},
    # Without a background class, one of three classes may absorb the background.
    "case": {"width": 64, "warmup": 0.5},
    "tscn": {"width": 64},
    # At the paper's weights, one branch dominates here, and may take a class for background.
    "facnet": {"width": 64, "ca_weight": 1.0, "mil_weight": 1.0},
    "rskp": {"width": 128, "scale": 10.0},
}
"""Settings by head; a head without settings has the paper's widths."""
