"""The strongest plain design: FastAPI + transformers' tokenizer + ONNX Runtime, on uvicorn.

    MODEL_DIR=models/default uvicorn benchmarks.plain_onnx:app

It serves the same 8-bit graph as we do, exported by `models.export`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import PreTrainedTokenizerFast

MODEL_DIR = Path(os.environ["MODEL_DIR"])

labels = json.loads((MODEL_DIR / "model.json").read_text())["labels"]
tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(MODEL_DIR / "tokenizer.json"))
session = onnxruntime.InferenceSession(
    str(MODEL_DIR / "model.onnx"), providers=["CPUExecutionProvider"]
)
app = FastAPI()


class TextRequest(BaseModel):
    text: str


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "healthy"}


@app.post("/predict")
def predict(request: TextRequest) -> dict[str, Any]:
    inputs = tokenizer(request.text, truncation=True, max_length=256, return_tensors="np")
    feeds = {name: inputs[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    logits = session.run(None, feeds)[0][0]
    exponentials = np.exp(logits - logits.max())
    probabilities = (exponentials / exponentials.sum()).tolist()
    scores = dict(zip(labels, probabilities, strict=True))
    label = max(scores, key=scores.__getitem__)
    return {"predicted_label": label, "confidence": scores[label], "all_scores": scores}
