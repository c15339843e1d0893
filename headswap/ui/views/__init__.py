"""From plain data to HTML and SVG. Knows no Gradio."""
