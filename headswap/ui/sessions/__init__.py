"""From tickets to sessions: what each visitor has chosen, loaded and trained, and the jobs that run for them."""
