"""The default plan against the textbook loop, on photographs that are held back: accuracy and time.

    python benchmarks/textbook.py FOLDER [--seeds 5] [--fastai]

The textbook loop teaches the head for 10 epochs, then everything at 1e-4 for 5. With ``--fastai`` the other side is
fastai's ``vision_learner(...).fine_tune(4)`` with its defaults, on the same weights (``pip install fastai`` first).
Both sides learn from the same photographs; of 300 a fifth is for validation, and what is not among the 300 judges.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from common import BACKBONE, chosen, machine, parted, seconds, undecoded
from torch.utils.data import DataLoader
from tutorial import Photographs, accuracy, learn, network

import headswap

Images = headswap.LabelledImages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fastai", action="store_true")
    given = parser.parse_args()
    images = headswap.load_images(given.folder)
    other, name = (fastai, "fastai's fine_tune(4)") if given.fastai else (textbook, "the textbook loop")
    warm = chosen(images, 12)
    ours(*warm.split(), warm)  # sets the engine up
    rows = []
    for seed in range(given.seeds):
        some, held_back = parted(images, given.images // len(images.classes), seed)
        learned, checked = some.split(seed=seed)
        torch.manual_seed(seed)
        rows.append([*ours(learned, checked, held_back), *other(learned, checked, held_back)])
        print(" ".join(f"{figure:.3f}" for figure in rows[-1]), flush=True)
    mine, my_seconds, theirs, their_seconds = zip(*rows, strict=True)
    ratio = statistics.median(b / a for a, b in zip(my_seconds, their_seconds, strict=True))
    print(
        f"Default plan {statistics.mean(mine):.3f} in {statistics.median(my_seconds):.0f} s, {name} "
        f"{statistics.mean(theirs):.3f} in {statistics.median(their_seconds):.0f} s, {ratio:.1f} times as long; "
        f"{given.seeds} seeds, {len(held_back)} photographs held back; {machine()}"
    )


def ours(learned: Images, checked: Images, held_back: Images) -> tuple[float, float]:
    models = []

    def work() -> None:
        models.append(headswap.adapt(BACKBONE, learned.classes))
        headswap.fit(models[0], undecoded(learned), validation=undecoded(checked))

    taken = seconds(work)
    right = models[0].predict_proba(held_back.paths).argmax(1) == torch.tensor(held_back.labels)
    return right.float().mean().item(), taken


def textbook(learned: Images, _: Images, held_back: Images) -> tuple[float, float]:
    net, head, preprocess = network(BACKBONE, len(learned.classes))

    def work() -> None:
        loader = DataLoader(Photographs(learned, preprocess, learning=True), 32, shuffle=True, num_workers=2)
        learn(net, head, loader, 10, 1e-3)
        learn(net, net, loader, 5, 1e-4)

    taken = seconds(work)
    return accuracy(net, held_back, preprocess), taken


def fastai(learned: Images, checked: Images, held_back: Images) -> tuple[float, float]:
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        IndexSplitter,
        Normalize,
        Resize,
        vision_learner,
    )

    files = [*learned.paths, *checked.paths]
    labels = dict(zip(files, (learned.classes[label] for label in (*learned.labels, *checked.labels)), strict=True))
    model = headswap.adapt(BACKBONE, learned.classes)
    wanted = model.preprocess
    learners: list[Any] = []

    def work() -> None:
        block = DataBlock(
            blocks=(ImageBlock, CategoryBlock),
            splitter=IndexSplitter(range(len(learned), len(files))),
            get_y=labels.get,
            item_tfms=Resize(wanted.size),
            batch_tfms=Normalize.from_stats(wanted.mean, wanted.std),
        )
        learner = vision_learner(block.dataloaders(files), "tf_efficientnet_lite0", pretrained=False, normalize=False)
        theirs = learner.model[0].model.state_dict()
        ours = [t for part in model.stages for t in part.state_dict().values()]
        # The same tensors in the same order, without the last layer.
        learner.model[0].model.load_state_dict(dict(zip(theirs, ours, strict=True)))
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(4)
        learners.append(learner)

    taken = seconds(work)
    [learner] = learners
    answers, _ = learner.get_preds(dl=learner.dls.test_dl(list(held_back.paths)))
    names: list[str] = list(learner.dls.vocab)
    right = [
        names[a] == held_back.classes[int(str(b))]
        for a, b in zip(answers.argmax(1).tolist(), held_back.labels, strict=True)
    ]
    return sum(right) / len(right), taken


if __name__ == "__main__":
    main()
