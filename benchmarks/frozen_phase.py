"""The frozen phase, 60 epochs of a linear head, against one pass over the images and against the tutorial's 10 epochs.

    python benchmarks/frozen_phase.py FOLDER

The pass decodes the photographs and runs them forward once, by the same engine, and nothing else; both sides begin with
an empty store and with the engine set up. The tutorial's loop decodes and runs the whole network in every epoch.
"""

from __future__ import annotations

from common import BACKBONE, arguments, in_turn, load, machine, seconds, through, undecoded
from torch.utils.data import DataLoader
from tutorial import Photographs, learn, network

import headswap
from headswap import Phase, Plan
from headswap.features.cache import FeatureCache


def main() -> None:
    given = arguments(__doc__)
    images = load(given.folder, given.images)
    learned, checked = images.split()
    plan = Plan((Phase(60, 0, 1e-3),), views=1)

    def ours() -> None:
        model = headswap.adapt(BACKBONE, images.classes)
        through(headswap.train(model, undecoded(learned), plan, undecoded(checked)))

    def one_pass() -> None:
        model = headswap.adapt(BACKBONE, images.classes)
        for half in (learned, checked):
            through(FeatureCache(model, undecoded(half)).compute([model.boundary]))

    def tutorial() -> None:
        net, head, preprocess = network(BACKBONE, len(images.classes))
        learn(net, head, DataLoader(Photographs(learned, preprocess, True), 32, shuffle=True, num_workers=2), 10, 1e-3)

    one_pass()  # sets the engine up
    frozen, passed = in_turn(given.rounds, ours, one_pass)
    loop = seconds(tutorial)
    print(
        f"Frozen phase of {len(images)} photographs, 60 epochs: {frozen:.1f} s, {frozen / passed:.2f} times one pass "
        f"({passed:.1f} s), {loop / frozen:.0f} times faster than the tutorial's 10 epochs ({loop:.0f} s); {machine()}"
    )


if __name__ == "__main__":
    main()
