"""From a name to a Classifier: catalogue, weights, stages, preprocessing, heads."""

from headswap.networks import heads as heads  # registers the built-in heads
