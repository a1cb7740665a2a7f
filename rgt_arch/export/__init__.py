"""Networks as ONNX files and `torch.export` programs."""
