"""An epoch with the last three stages unfrozen, over kept activations, against an epoch of the whole network.

    python benchmarks/epoch.py FOLDER

The whole network learns from pixels that are decoded and normalised already, in the same batches.
"""

from __future__ import annotations

import torch
from common import BACKBONE, arguments, in_turn, load, machine, through
from tutorial import learn, network

import headswap
from headswap import Phase, Plan
from headswap.features.cache import FeatureCache
from headswap.training.loop import Learner, train_epoch
from headswap.training.optimizer import PhaseOptimizer

BATCH = 16


def main() -> None:
    given = arguments(__doc__, rounds=2)
    images = load(given.folder, given.images)
    model = headswap.adapt(BACKBONE, images.classes)
    phase = Phase(1, 3, 1e-3, 1e-3)
    plan = Plan((phase,), views=1, batch_size=BATCH)
    kept = FeatureCache(model, images)
    through(kept.compute([0, model.get_boundary(3)]))
    learner = Learner(model.unfreeze(3), plan, kept)
    net, _, _ = network(BACKBONE, len(images.classes))
    pixels = kept.get_features(0)[:, 0]

    def ours() -> None:
        through(train_epoch(learner, 1, PhaseOptimizer(model, phase, plan.weight_decay, learner.steps_per_epoch)))

    def whole() -> None:
        order = torch.randperm(len(images)).split(BATCH)
        learn(net, net, ((pixels[some], kept.targets[some]) for some in order), 1, 1e-4)

    three, everything = in_turn(given.rounds, ours, whole)
    print(
        f"An epoch of {len(images)} photographs: the last three stages {three:.1f} s, the whole network "
        f"{everything:.1f} s, {everything / three:.1f} times as long; {machine()}"
    )


if __name__ == "__main__":
    main()
