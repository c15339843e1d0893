"""A page of its own for model.onnx: drop an image, see what it is. Runs here and as a Hugging Face Space."""

import gradio as gr
from predict import about, check, predict

print(check())

with gr.Blocks(title="Classifier", analytics_enabled=False) as demo:
    gr.Markdown("# Classifier\nDrop an image, paste one or take one with the camera.")
    with gr.Row():
        image = gr.Image(type="filepath", sources=["upload", "clipboard", "webcam"], label="Image")
        label = gr.Label(num_top_classes=min(6, len(about["classes"])), label="What it shows")
    image.change(lambda file: dict(predict(file)) if file else None, image, label, api_name="predict")

if __name__ == "__main__":
    demo.launch(ssr_mode=False)
