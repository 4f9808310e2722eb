"""Run every experiment, or resume where the last call stopped: `python -m experiments [options]`."""

import sys

from experiments import defaults, ensembles, kth, planted, planted_borders, review, second_stage, second_stage_folds
from experiments._run import arguments
from experiments._tables import PAGES, refresh
from wtal.models.heads import HEADS

if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.set_defaults(heads=HEADS.names(), tables=kth.TABLES)
    parser.set_defaults(problems=defaults.PROBLEMS, backbones=defaults.BACKBONES)
    parser.set_defaults(collections=review.COLLECTIONS)
    options = parser.parse_args(sys.argv[1:])
    planted.run(options)
    planted_borders.run(options)
    kth.run(options)
    ensembles.run(options)
    defaults.run(options)
    review.run(options)
    second_stage_folds.run(options)
    second_stage.run(options)
    for page in PAGES:
        for name in refresh(options.out, page):
            options.reporter.say(f"docs/{page.name} has marks for the table {name}, which is missing")
