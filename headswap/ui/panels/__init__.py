"""Parts of steps with their Gradio components and handlers, and the parsing of what a browser sends to them."""
