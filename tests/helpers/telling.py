"""What a training of two phases tells, without one: its events, and how it stands in the end. Knows no fixtures."""

from dataclasses import replace

from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import Epoch, Kept, PhaseBegins, Rate
from headswap.training.plan import Phase
from headswap.ui.sessions.job import Run

HEAD = PhaseBegins(1, 2, Phase(20, 0, 1e-3), 1, 36, (), 3_843, 3_371_000, 5_120)
RATES = (Rate("6", 1e-4), Rate("7", 1e-4), Rate("last", 1e-4), Rate("head", 1e-3))
THAW = PhaseBegins(2, 2, Phase(16, 3, 1e-3, 1e-4), 21, 36, ("6", "7", "last"), 1_200_000, 2_174_843, 351_232, RATES)
KEPT = Kept(2, "best", score=0.95, metric="accuracy", right=57, of=60, labels=(), seconds=2.0, chosen=True)


def epoch(number, best=True, right=57, seconds=1.0, **more):
    figures = {
        "training_loss": 0.5 / number,
        "training_score": 0.8,
        "validation_loss": 0.6 / number,
        "validation_score": right / 60,
        "right": right,
        "of": 60,
        "metric": "accuracy",
        "seconds": seconds,
        "best": best,
    }
    return Epoch(number, **(figures | more))


FINISHED = Run(
    "finished",
    phases=(HEAD, THAW),
    epochs=(epoch(20, right=50), epoch(30, right=55), epoch(31), epoch(32, best=False, right=56)),
    kept=replace(KEPT, epoch=31),
)
STORY = (FrozenPass(8, 8, 0.5), HEAD, epoch(1), THAW, epoch(2), KEPT)
