# mypy: ignore-errors
# (runs in another environment, with libraries that this one does not have)
"""torchrec with fbgemm-gpu-cpu: one fused embedding collection with row-wise Adagrad, dense layers with Adam."""

from __future__ import annotations

from typing import Any

from loop import Loop, read_log, resident, slices
from protocol import Skip, serve


def make(spec: dict[str, Any]) -> Loop:
    import fbgemm_gpu  # noqa: F401 - registers the operators
    import torch
    import torchrec
    from torchrec.modules.crossnet import CrossNet
    from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
    from torchrec.modules.mlp import MLP
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

    variant = spec["variant"]
    torch.set_num_threads(spec["threads"])
    ids, labels, rows = read_log(spec)
    names = [f"C{k}" for k in range(len(rows))]
    batches = []
    for i, y in slices(spec, ids, labels):
        values = torch.from_numpy(i.T.copy()).flatten().long()  # slot-major, as the library lays them out
        lengths = torch.ones(values.shape[0], dtype=torch.int32)
        keyed = KeyedJaggedTensor(names, values, lengths=lengths)
        keyed.offsets()  # worked out once: part of the batch
        batches.append((keyed, torch.from_numpy(y)))
    before = resident()
    width, hidden, kind = variant["width"], spec["hidden"], variant["model"]
    if kind not in ("fm", "deepfm", "dnn", "dcnv2"):
        raise Skip(f"no worker for the model {kind}")

    def collection(dim: int, prefix: str) -> Any:
        tables = [
            torchrec.EmbeddingBagConfig(name=f"{prefix}{n}", embedding_dim=dim, num_embeddings=r, feature_names=[n])
            for n, r in zip(names, rows, strict=True)
        ]
        return FusedEmbeddingBagCollection(
            tables, optimizer_type=torchrec.optim.RowWiseAdagrad, optimizer_kwargs={"lr": 0.01}
        )

    inputs = width * len(rows)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = collection(width, "t_")
            # first-order weights in the narrowest table that the library allows, 4 numbers wide
            self.first = collection(4, "f_") if kind in ("fm", "deepfm") else None
            self.mlp = MLP(inputs, hidden) if kind != "fm" else None
            self.cross = CrossNet(inputs, spec["cross"]) if kind == "dcnv2" else None
            out = (hidden[-1] if kind != "fm" else 0) + (inputs if kind == "dcnv2" else 0)
            self.out = torch.nn.Linear(out, 1) if out else None
            self.bias = torch.nn.Parameter(torch.zeros(1))

        def forward(self, keyed: Any) -> Any:
            found = self.embeddings(keyed)
            flat = found.values()  # B x S D
            logit = self.bias
            if self.first is not None:
                logit = logit + self.first(keyed).values().sum(1, keepdim=True)
                logit = logit + pairs(flat)
            parts = []
            if self.cross is not None:
                parts.append(self.cross(flat))
            if self.mlp is not None:
                parts.append(self.mlp(flat))
            return logit + self.out(torch.cat(parts, dim=1)) if parts else logit

    def pairs(flat: Any) -> Any:
        # the library's own FactorizationMachine squares the sum over the dimensions too, which is no FM
        vectors = flat.view(flat.shape[0], len(rows), width)
        return 0.5 * (vectors.sum(1).square() - vectors.square().sum(1)).sum(1, keepdim=True)

    model = Model()
    dense = [p for n, p in model.named_parameters() if not n.startswith(("embeddings", "first"))]
    adam = torch.optim.Adam(dense, lr=1e-3)
    loss = torch.nn.BCEWithLogitsLoss()

    def train(batch: Any) -> None:
        adam.zero_grad()
        loss(model(batch[0]), batch[1]).backward()  # the tables are updated inside
        adam.step()

    def infer(batch: Any) -> None:
        with torch.no_grad():
            model(batch[0])

    facts = {"optimizer": "fused row-wise Adagrad", "parameters": sum(rows) * width + sum(p.numel() for p in dense)}
    return Loop(batches, train, infer, (model.train, model.eval), facts, before)


if __name__ == "__main__":
    serve(make)
