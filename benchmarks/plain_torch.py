"""The plain design that people deploy today: FastAPI + transformers + torch, on uvicorn.

    MODEL_DIR=build/checkpoint uvicorn benchmarks.plain_torch:app

Takes and gives what our service does, but for validation, limits and probes.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MODEL_DIR = os.environ["MODEL_DIR"]

tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR).eval()
app = FastAPI()


class TextRequest(BaseModel):
    text: str


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "healthy"}


@app.post("/predict")
def predict(request: TextRequest) -> dict[str, Any]:
    inputs = tokenizer(request.text, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        probabilities = model(**inputs).logits.softmax(dim=-1)[0].tolist()
    scores = {model.config.id2label[i]: p for i, p in enumerate(probabilities)}
    label = max(scores, key=scores.__getitem__)
    return {"predicted_label": label, "confidence": scores[label], "all_scores": scores}
