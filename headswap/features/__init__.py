"""From images and frozen stages to cached features: augmentation, inference engines, memory, cache, early start."""
