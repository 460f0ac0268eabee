"""The inference module: text, tokens, logits, probabilities. No web framework, no cloud.

May import: the standard library, numpy, tokenizers (`tokenizer.py` only), onnxruntime
(`engine_onnx.py` only). Imports nothing of this project outside itself.
"""

import os

# numpy only scales and exponentiates a few logits here; without this its OpenBLAS starts a thread
# for each CPU at import, which nothing uses.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
