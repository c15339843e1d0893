"""From a name to a Classifier: catalogue, weights, stages, preprocessing, heads."""
