"""Everything that makes a model artifact: data, training, export, evaluation. No image contains it.

May import: `core`, torch, transformers, onnx, matplotlib. Nothing that serves imports it.
"""
