"""From answers to figures: metrics, evaluation on images, significance. Knows no training."""
