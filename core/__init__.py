"""The inference module: text, tokens, logits, probabilities. No web framework, no cloud.

May import: the standard library, numpy, tokenizers (`tokenizer.py` only), onnxruntime
(`engine_onnx.py` only). Imports nothing of this project outside itself.
"""
