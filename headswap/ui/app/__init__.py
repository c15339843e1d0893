"""From the parts of the page to a running server: page, wiring, API, same-origin check, ZeroGPU."""
