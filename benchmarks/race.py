"""Three heads raced on the same activations against the three one after another from the images.

    python benchmarks/race.py FOLDER [--heads linear bottleneck lda]

Only the frozen phase is timed, of the suggested plan; every run decodes its photographs itself, with the engine set up.
"""

from __future__ import annotations

from dataclasses import replace

from common import BACKBONE, arguments, in_turn, load, machine, through, undecoded

import headswap
from headswap import Plan


def main() -> None:
    given = arguments(__doc__, heads=("linear", "bottleneck", "lda"))
    images = load(given.folder, given.images)
    suggested = Plan.suggest(images, headswap.adapt(BACKBONE, images.classes))
    plan = replace(suggested, phases=suggested.phases[:1], checkpoint="last")

    def raced() -> None:
        through(headswap.race(undecoded(images), BACKBONE, given.heads, plan))

    def one_by_one() -> None:
        for head in given.heads:
            headswap.fit(headswap.adapt(BACKBONE, images.classes, head), undecoded(images), plan)

    raced()  # sets the engine up
    together, apart = in_turn(given.rounds, raced, one_by_one)
    print(
        f"{', '.join(given.heads)} on {len(images)} photographs, {plan.views} views: raced {together:.1f} s, one after "
        f"another {apart:.1f} s, {apart / together:.2f} times as long; {machine()}"
    )


if __name__ == "__main__":
    main()
