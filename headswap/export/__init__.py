"""From a trained Classifier to what others use: model file, ONNX, program, script, kits, model card; each proved."""
