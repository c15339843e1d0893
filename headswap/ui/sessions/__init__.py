"""Who visits, what each has chosen, and what runs for them. Knows no Gradio."""
