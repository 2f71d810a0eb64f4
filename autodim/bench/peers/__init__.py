"""Other libraries, each in its worker script, run by the python of an environment that has it.

A worker script imports nothing of autodim but `protocol.py` beside it, so that the other environment needs no autodim.
It builds the library's model from the library's own parts with the library's own default optimizer, and trains it the
way the library's own `fit` does, without the library's data loader (batches are handed over ready made, which favours
the peer). Where the library is not importable the worker says why and is left out.
"""

from __future__ import annotations

PEERS = {
    "fuxictr": "worker_fuxictr.py",
    "deepctr-torch": "worker_deepctr.py",
    "torchrec": "worker_torchrec.py",
}
