"""How fast this machine trains and scores, and how far that is from what it could do.

A *variant* is one model at one width, batch, share, optimizer and precision, of autodim or of another library (a
*peer*). Every variant lives in a process of its own, so that its peak memory is its own and a peer may live in another
environment; the parent asks them in turn, A B A B, so that a noisy machine disturbs all alike. Medians are reported.

What goes in: a Criteo-shaped synthetic log, or a run folder's encoded log. What comes out: one row a variant with
training and inference samples/s, the share of the machine's limit (see `work`), the time of a step by part, and the
peak memory.

- `synthetic`: the log, and folders of arrays that every worker can read.
- `variants`: what is measured, and the widths of pruned variants.
- `work`: FLOPs and bytes of a sample, and the limit that follows. `machine`: the measured rates.
- `worker`: one variant of autodim in its process; `peers`: the same for other libraries.
- `run`: starts the workers, asks them in turn. `table`: what a person sees.
"""
