"""Parts of the tabs: tables, charts, pickers and notes with their Gradio components."""
