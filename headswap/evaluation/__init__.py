"""From predictions to figures: metrics, evaluation on images, significance of differences. Knows no training."""
