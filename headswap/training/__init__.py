"""From a Plan to events to a trained Classifier: plan, loop, optimizer, checkpoints, race, cross-validation."""
