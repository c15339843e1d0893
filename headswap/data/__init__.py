"""From untrusted files to LabelledImages: list, place, copy, decode, find duplicates, split, check."""
