# mypy: ignore-errors
# (runs in another environment, with libraries that this one does not have)
"""FuxiCTR: FM, DeepFM and DCNv2 of its layers as in its model zoo, Adam on all parameters, its own training step."""

from __future__ import annotations

import tempfile
from typing import Any

from loop import Loop, read_log, resident, slices
from protocol import Skip, serve


def make(spec: dict[str, Any]) -> Loop:
    import torch
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.layers import CrossNetV2, FactorizationMachine, FeatureEmbedding, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    variant = spec["variant"]
    torch.set_num_threads(spec["threads"])
    ids, labels, rows = read_log(spec)
    if variant["model"] not in ("fm", "deepfm", "dcnv2"):
        raise Skip(f"no worker for the model {variant['model']}")
    names = [f"C{k}" for k in range(len(rows))]
    batches = [
        {**{n: torch.from_numpy(i[:, k].copy()).long() for k, n in enumerate(names)}, "label": torch.from_numpy(y)}
        for i, y in slices(spec, ids, labels)
    ]
    before = resident()
    root = tempfile.mkdtemp()
    features = FeatureMap("bench", root)
    features.labels = ["label"]
    for name, count in zip(names, rows, strict=True):
        features.features[name] = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": count}
    features.num_fields, features.total_features, features.input_length = len(rows), sum(rows), len(rows)
    features.default_emb_dim = variant["width"]
    features.set_column_index()
    width, hidden = variant["width"], spec["hidden"]

    class Model(BaseModel):
        """As FuxiCTR's model zoo writes them."""

        def __init__(self) -> None:
            super().__init__(
                features, model_id="bench", gpu=-1, verbose=0, model_root=root, metrics=["AUC"], monitor="AUC"
            )
            self.embedding_layer = FeatureEmbedding(features, width)
            inputs = width * len(rows)
            if variant["model"] != "dcnv2":
                self.fm = FactorizationMachine(features)
            else:
                self.cross = CrossNetV2(inputs, spec["cross"])
                self.fc = torch.nn.Linear(inputs + hidden[-1], 1)
            if variant["model"] != "fm":
                self.mlp = MLP_Block(
                    input_dim=inputs,
                    output_dim=None if variant["model"] == "dcnv2" else 1,
                    hidden_units=hidden,
                    hidden_activations="relu",
                )
            self.compile("adam", "binary_crossentropy", 1e-3)
            self.reset_parameters()
            self.model_to_device()

        def forward(self, inputs: Any) -> Any:
            x = self.get_inputs(inputs)
            vectors = self.embedding_layer(x)
            if variant["model"] == "dcnv2":
                flat = vectors.flatten(start_dim=1)
                logit = self.fc(torch.cat([self.cross(flat), self.mlp(flat)], dim=-1))
            else:
                logit = self.fm(x, vectors)
                if variant["model"] == "deepfm":
                    logit = logit + self.mlp(vectors.flatten(start_dim=1))
            return {"y_pred": self.output_activation(logit)}

    model = Model()
    model._max_gradient_norm = 10.0  # fit's default

    def infer(batch: Any) -> None:
        with torch.no_grad():
            model.forward(batch)

    facts = {"optimizer": "Adam", "parameters": sum(p.numel() for p in model.parameters())}
    return Loop(batches, model.train_step, infer, (model.train, model.eval), facts, before)


if __name__ == "__main__":
    serve(make)
