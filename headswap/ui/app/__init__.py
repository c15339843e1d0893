"""From the steps of the page to a running server: page, events, HTTP API, same-origin check, ZeroGPU."""
