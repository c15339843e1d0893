"""What a training of two phases tells, without one: its events, and how it stands in the end. Knows no fixtures."""

from dataclasses import replace

from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import Epoch, Kept, LearningRate, PhaseBegins
from headswap.training.plan import Phase
from headswap.ui.sessions.run import Run

HEAD = PhaseBegins(1, 2, Phase(20, 0, 1e-3), 1, 36, (), 3_843, 3_371_000, 5_120)
RATES = (LearningRate("6", 1e-4), LearningRate("7", 1e-4), LearningRate("last", 1e-4), LearningRate("head", 1e-3))
THAW = PhaseBegins(2, 2, Phase(16, 3, 1e-3, 1e-4), 21, 36, ("6", "7", "last"), 1_200_000, 2_174_843, 351_232, RATES)
KEPT = Kept(
    2, "best", score=0.95, metric="accuracy", correct=57, total=60, labels=(), seconds=2.0, selected_on_validation=True
)


def epoch(number, best=True, correct=57, seconds=1.0, **more):
    figures = {
        "training_loss": 0.5 / number,
        "training_score": 0.8,
        "validation_loss": 0.6 / number,
        "validation_score": correct / 60,
        "correct": correct,
        "total": 60,
        "metric": "accuracy",
        "seconds": seconds,
        "best": best,
    }
    return Epoch(number, **(figures | more))


FINISHED = Run(
    "finished",
    phases=(HEAD, THAW),
    epochs=(epoch(20, correct=50), epoch(30, correct=55), epoch(31), epoch(32, best=False, correct=56)),
    kept=replace(KEPT, epoch=31),
)
STORY = (FrozenPass(8, 8, 0.5), HEAD, epoch(1), THAW, epoch(2), KEPT)
