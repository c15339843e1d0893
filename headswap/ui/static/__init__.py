"""Style sheets, scripts, and access to the pictures that the page shows."""
