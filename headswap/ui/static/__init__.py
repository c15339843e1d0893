"""Style sheets, scripts, and the pictures that the page shows."""
