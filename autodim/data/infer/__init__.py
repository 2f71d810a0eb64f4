"""A schema guessed from a log, as a config that runs and says why.

What goes in: a path, and which column is the label. What comes out: the text of a commented config, and the guesses
as rows of a table. Only a sample is read (its first rows and pieces spread over the rest), so memory stays bounded;
every guess is one line that a person can correct.

    sniff.py        files -> format: CSV or Parquet, delimiter, header
    sample.py       format -> a table of rows, in the log's order
    words.py        what names of columns say; names as YAML
    profile.py      column -> facts: type, distinct values, missing, order, lists, times
    clock.py        whole numbers that are times
    known.py        logs as published: Criteo, Avazu, MovieLens
    target.py       which rows are 1; candidates where nobody said
    leaks.py        columns that know the label
    numbers.py      numbers: ids, buckets or a value
    guess.py        facts -> slots, columns left out, split; shared vocabularies
    config_text.py  guesses -> YAML with reasons; sections.py what follows from the log's size

Torch-free.
"""

from autodim.data.infer.config_text import Inferred, infer

__all__ = ["Inferred", "infer"]
