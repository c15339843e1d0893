"""From a `Plan` to events to a trained `Classifier`: training, race, cross-validation, learning-rate finder."""
