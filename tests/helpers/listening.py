"""Listening to what a training tells. Knows no fixtures."""


def events(kind, told):
    """All events of this kind."""
    return [event for event in told if isinstance(event, kind)]


def until(kind, told, times=1):
    """Listen until this kind of event was told so many times; returns the last."""
    for event in told:
        if isinstance(event, kind):
            times -= 1
            if not times:
                return event
    raise AssertionError(f"No more {kind.__name__}.")


def rightly_named(model, checked):
    """How many images the model names rightly, asked one by one."""
    wanted = model.preprocess
    answers = model.predict_proba(checked.pixels(i, wanted.resize, wanted.interpolation) for i in range(len(checked)))
    return sum(a == b for a, b in zip(answers.argmax(1).tolist(), checked.labels, strict=True))
