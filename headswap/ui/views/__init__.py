"""From plain data to HTML and SVG: one module for each thing that the page shows. Knows no Gradio."""
