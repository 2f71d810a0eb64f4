"""From a raw log to encoded columns, and from those to batches.

What goes in: CSV, TSV or Parquet files, or a DataFrame, and the `data` section of a config that names slots and
labels. What comes out: a folder of plain integers and floats, memory-mapped by everything downstream.

    files.py       a path -> the files of a log
    several.py     several logs with labels of their own, encoded as one
    reader.py      files or frames -> pieces of rows; strict, every row accounted for
    csvfile.py     the CSV side of it: field counts checked; csvlines.py: blocks of whole lines, quotes checked
    text.py        columns -> texts with codes, numbers, times; bags.py: several ids a row, with weights
    hashing.py     texts -> stable 64-bit hashes; hashed ids
    memory.py      how `data.memory` is shared out
    spill.py       a vocabulary beyond its share of memory, counted and ordered on disk
    vocabulary.py  texts -> ids: 0 out-of-vocabulary, then by falling training frequency
    numeric.py     numbers -> buckets or standardised values
    labels.py      columns -> labels 0, 1 or missing; rows to drop
    splits.py      rows -> train, valid, test; a pure function of seed and row number
    check.py       what a data section must fulfil; which slots read which table
    work.py        one piece, translated: what both `encode` and `encode_rows` share
    encoder.py     translated pieces -> ids and standardised numbers
    encode.py      the two passes; learn.py: what training rows teach; parts.py writes the second one's files
    manifest.py    what is written beside the columns
    columns.py     the encoded log, memory-mapped; rows -> `Batch`
    batches.py     the order of rows, a pure function of (seed, epoch, step)
    frame.py       DataFrames in; new rows for prediction
    logs/          logs that autodim knows by name

Everything but `columns.py`, `batches.py` and `frame.py` works without torch.
"""
