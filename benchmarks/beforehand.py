"""From pressing Train to the first phase: after a frozen pass that was begun beforehand, against a cold start.

    python benchmarks/beforehand.py FOLDER

Both sides begin with an empty store and with the engine set up; what was done beforehand is not counted.
"""

from __future__ import annotations

import statistics
import time

from common import BACKBONE, arguments, load, machine, undecoded

import headswap
from headswap.training.api import start_frozen_pass
from headswap.training.events import PhaseBegins


def main() -> None:
    given = arguments(__doc__)
    images = load(given.folder, given.images)
    plan = headswap.Plan.suggest(images, headswap.adapt(BACKBONE, images.classes))

    def until_it_learns(warm: bool) -> float:
        mine = undecoded(images)
        model = headswap.adapt(BACKBONE, images.classes)
        beforehand = start_frozen_pass(headswap.adapt(BACKBONE, images.classes), mine, plan) if warm else None
        while beforehand and beforehand.compute_next():
            pass
        began = time.perf_counter()
        events = headswap.train(model, mine, plan, precomputed=beforehand)
        while not isinstance(next(events), PhaseBegins):
            pass
        taken = time.perf_counter() - began
        events.close()
        return taken

    until_it_learns(False)  # sets the engine up
    rounds = [(until_it_learns(True), until_it_learns(False)) for _ in range(given.rounds)]
    warm, cold = (statistics.median(side) for side in zip(*rounds, strict=True))
    print(
        f"{len(images)} photographs: the head begins to learn {warm:.1f} s after Train was pressed, cold after "
        f"{cold:.1f} s; {machine()}"
    )


if __name__ == "__main__":
    main()
