# mypy: ignore-errors
# (runs in another environment, with libraries that this one does not have)
"""DeepCTR-Torch: its DeepFM (without dense layers: FM) and DCN, Adam as in its examples, the body of its `fit`."""

from __future__ import annotations

from typing import Any

from loop import Loop, read_log, resident, slices
from protocol import Skip, serve


def make(spec: dict[str, Any]) -> Loop:
    import torch
    from deepctr_torch.inputs import SparseFeat
    from deepctr_torch.models import DCN, DeepFM

    variant = spec["variant"]
    torch.set_num_threads(spec["threads"])
    ids, labels, rows = read_log(spec)
    if sum(rows) > 1 << 24:
        raise Skip("DeepCTR-Torch keeps ids in float32, exact up to 16 million only")
    # ids and all are one float matrix in this library
    batches = [(torch.from_numpy(i).float(), torch.from_numpy(y)) for i, y in slices(spec, ids, labels)]
    before = resident()
    features = [SparseFeat(f"C{k}", r, embedding_dim=variant["width"]) for k, r in enumerate(rows)]
    if variant["model"] in ("fm", "deepfm"):
        hidden = tuple(spec["hidden"]) if variant["model"] == "deepfm" else ()
        model = DeepFM(features, features, dnn_hidden_units=hidden, device="cpu")
    elif variant["model"] == "dcnv2":
        model = DCN(
            features,
            features,
            cross_num=spec["cross"],
            cross_parameterization="matrix",
            dnn_hidden_units=tuple(spec["hidden"]),
            device="cpu",
        )
    else:
        raise Skip(f"no worker for the model {variant['model']}")
    model.compile("adam", "binary_crossentropy")

    def train(batch: Any) -> None:
        x, y = batch
        predicted = model(x).squeeze()
        model.optim.zero_grad()
        loss = model.loss_func(predicted, y.squeeze(), reduction="sum")
        total = loss + model.get_regularization_loss() + model.aux_loss
        total.backward()
        model.optim.step()

    def infer(batch: Any) -> None:
        with torch.no_grad():
            model(batch[0])

    facts = {"optimizer": "Adam", "parameters": sum(p.numel() for p in model.parameters())}
    return Loop(batches, train, infer, (model.train, model.eval), facts, before)


if __name__ == "__main__":
    serve(make)
