"""What the readers let through, what they refuse, and that they account for every row."""

import gzip
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodim.config.schema import DataConfig
from autodim.data import csvfile, reader
from autodim.data.accounting import Rejects
from autodim.data.files import log_files
from autodim.data.reader import open_log
from autodim.errors import ConfigError, DataError

AB = ["a", "b"]


def read(path: Path, columns: list[str] = AB, limit: int = 0, **config) -> tuple[list[tuple], Rejects, list[int]]:
    """Rows, the accounting, and each row's line."""
    rejects = Rejects(limit)
    rows, lines = [], []
    for piece in open_log(DataConfig(path=str(path), **config), Path(), columns, rejects=rejects):
        rows += list(zip(*(piece.table[c].to_pylist() for c in columns), strict=True))
        lines += [piece.lines.of(i) for i in range(piece.table.num_rows)]
    return rows, rejects, lines


def written(tmp_path: Path, content: bytes, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_categories_stay_text(tmp_path):
    path = written(tmp_path, b"a,b\nNA,007\nnull,9007199254740993\ntrue,1e5\n,01:30\n")
    assert read(path)[0] == [("NA", "007"), ("null", "9007199254740993"), ("true", "1e5"), ("", "01:30")]


def test_short_and_long_rows_are_rejected_not_shifted(tmp_path):
    path = written(tmp_path, b"a,b\n1,2\n3\n4,5,6\n7,8\n")
    rows, rejects, lines = read(path, limit=2)
    assert rows == [("1", "2"), ("7", "8")]
    assert lines == [2, 5]
    assert rejects.rejected == 2


def test_error_names_file_line_text_and_remedy(tmp_path):
    path = written(tmp_path, b"a,b\n1,2\n3,4,five\n")
    with pytest.raises(DataError, match=r"log\.csv, line 3: 3 fields where 2 .*'3,4,five'.*max_bad_rows"):
        read(path)


def test_unclosed_quote_costs_one_row(tmp_path):
    path = written(tmp_path, b'a,b\n1,"open\n2,x\n3,y"\n4,z\n')
    with pytest.raises(DataError, match=r"line 2: a quote"):
        read(path)
    rows, rejects, lines = read(path, limit=2)
    assert rows == [("2", "x"), ("4", "z")]
    assert rejects.rejected == 2
    assert lines == [3, 5]


def test_even_quotes_that_swallow_a_line_break_are_seen(tmp_path):
    # the first quote is within a field, so a parser takes the second for an opening one and reads on
    path = written(tmp_path, b'a,b\n5" disk,"open\n2,x\n"q",z\n')
    rows, rejects, _ = read(path, limit=1)
    assert rows == [("2", "x"), ("q", "z")]
    assert rejects.rejected == 1


def test_proper_quotes_are_unquoted(tmp_path):
    path = written(tmp_path, b'a,b\n"x,1","say ""hi"""\n"",""""\n')
    assert read(path)[0] == [("x,1", 'say "hi"'), ("", '"')]


def test_blank_lines_are_no_rows(tmp_path):
    path = written(tmp_path, b"a,b\r\n\r\n1,2\r\n\r\n3,4\r\n\r\n")
    rows, rejects, lines = read(path)
    assert rows == [("1", "2"), ("3", "4")]
    assert (rejects.blank, rejects.rejected) == (3, 0)
    assert lines == [3, 5]


def test_blank_line_of_one_column_is_a_missing_value(tmp_path):
    assert read(written(tmp_path, b"a\nx\n\ny\n"), ["a"])[0] == [("x",), ("",), ("y",)]


def test_lone_carriage_return_is_rejected(tmp_path):
    rows, rejects, _ = read(written(tmp_path, b"a,b\n1,2\rx\n3,4\n"), limit=1)
    assert rows == [("3", "4")]
    assert rejects.rejected == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_wide_encodings_are_named(tmp_path, encoding):
    with pytest.raises(DataError, match=r"UTF-8"):
        read(written(tmp_path, "a,b\n1,2\n".encode(encoding)))


def test_byte_order_mark_is_stripped(tmp_path):
    assert read(written(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n"))[0] == [("1", "2")]


def test_nul_and_latin1_name_the_line(tmp_path):
    with pytest.raises(DataError, match=r"line 3: a NUL"):
        read(written(tmp_path, b"a,b\n1,2\n3,\x00\n"))
    with pytest.raises(DataError, match=r"line 3: bytes that are not UTF-8"):
        read(written(tmp_path, b"a,b\n1,2\n3,caf\xe9\n"))


def test_missing_column_suggests_the_nearest_and_the_delimiter(tmp_path):
    with pytest.raises(DataError, match=r"no column 'usr_id'; did you mean \"user_id\""):
        read(written(tmp_path, b"user_id,b\n1,2\n"), ["usr_id"])
    with pytest.raises(DataError, match=r"set data.delimiter"):
        read(written(tmp_path, b"a;b\n1;2\n"))


def test_repeated_header_and_empty_file(tmp_path):
    with pytest.raises(DataError, match=r"more than once"):
        read(written(tmp_path, b"a,a,b\n1,2,3\n"))
    with pytest.raises(DataError, match=r"empty"):
        read(written(tmp_path, b""))


def test_gzip_and_a_cut_one(tmp_path):
    packed = gzip.compress(b"a\tb\n" + b"1\t2\n" * 1000)
    assert len(read(written(tmp_path, packed, "log.tsv.gz"))[0]) == 1000
    with pytest.raises(DataError, match=r"whole"):
        read(written(tmp_path, packed[:-12], "cut.tsv.gz"))


def test_files_without_header_need_names_that_fit(tmp_path):
    path = written(tmp_path, b"1,2\n3,4\n")
    assert read(path, header=False, names=AB)[0] == [("1", "2"), ("3", "4")]
    with pytest.raises(ConfigError, match=r"data.names"):
        read(path, header=False)
    with pytest.raises(DataError, match=r"2 fields, but data.names names 3"):
        read(path, header=False, names=["a", "b", "c"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([b"1,2", b"", b"3", b'"x",y', b'a"b,c', b'"', b'x,"', b"4,5,6", b"\r"]), max_size=30))
def test_rows_do_not_depend_on_blocks(tmp_path_factory, lines):
    path = written(tmp_path_factory.mktemp("log"), b"a,b\n" + b"\n".join(lines))
    whole = read(path, limit=1000)
    before, csvfile.BLOCK_BYTES = csvfile.BLOCK_BYTES, 7
    try:
        cut = read(path, limit=1000)
    finally:
        csvfile.BLOCK_BYTES = before
    assert cut[0] == whole[0]
    assert cut[2] == whole[2]
    assert (cut[1].rejected, cut[1].blank) == (whole[1].rejected, whole[1].blank)
    content = path.read_bytes()[4:]
    assert len(whole[0]) + whole[1].rejected + whole[1].blank == content.count(b"\n") + (content[-1:] not in b"\n")


def test_patterns_and_folders_are_sorted_and_variables_expanded(tmp_path, monkeypatch):
    for name in ("part-2.csv", "part-1.csv", "other.csv", "_SUCCESS"):
        written(tmp_path, b"a,b\n" + name.encode() + b",1\n", name)
    monkeypatch.setenv("LOGS_HERE", str(tmp_path))
    assert [r[0] for r in read(tmp_path / "part-*.csv")[0]] == ["part-1.csv", "part-2.csv"]
    assert [p.name for p in log_files(DataConfig(path="${LOGS_HERE}"), Path())] == [
        "other.csv",
        "part-1.csv",
        "part-2.csv",
    ]
    with pytest.raises(DataError, match=r'did you mean "other.csv"'):
        log_files(DataConfig(path="othr.csv"), tmp_path)
    with pytest.raises(DataError, match=r"variable is not set"):
        log_files(DataConfig(path="${AUTODIM_NOT_SET}/x.csv"), Path())


def test_parquet_pieces_and_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "PARQUET_ROWS", 3)
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"a": range(10), "b": [str(i) for i in range(10)]}), path)
    rows, _, lines = read(path)
    assert rows == [(i, str(i)) for i in range(10)]
    assert lines == list(range(1, 11))
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"Parquet"):
        read(tmp_path / "cut.parquet")


def test_frames(monkeypatch):
    monkeypatch.setattr(reader, "PARQUET_ROWS", 2)
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "mixed": [1, "x", 2.0]})
    pieces = list(open_log(DataConfig(), Path(), AB, source=frame))
    assert [v for p in pieces for v in p.table["b"].to_pylist()] == ["x", None, "z"]
    with pytest.raises(DataError, match=r"'mixed'.*astype"):
        list(open_log(DataConfig(), Path(), ["mixed"], source=frame))


def test_parser_steps_and_long_lines_lose_nothing(tmp_path, monkeypatch):
    content = b"a,b\n" + b"".join(b"%d,x\n" % i + (b"short\n" if i % 100 == 7 else b"") for i in range(1000))
    path = written(tmp_path, content + b'"' + b"y" * 5000 + b'",z\n')
    whole = read(path, limit=10)
    monkeypatch.setattr(csvfile, "PARSE_BYTES", 200)  # shorter than the last line
    stepped = read(path, limit=10)
    assert len(whole[0]) == 1001
    assert whole[0][-1] == ("y" * 5000, "z")
    assert (stepped[0], stepped[2]) == (whole[0], whole[2])
    assert whole[2][8] == 11  # row "8" follows the header, rows 0..7 and one rejected line


def test_a_row_of_wrong_length_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"a,b,click\nx,y,1\nx,\xff\xfe,1,extra\nx,y,0\n")
    data = DataConfig(path=str(path), labels=("click",), slots=("a", "b"), max_bad_rows=5)
    with pytest.raises(DataError, match=r"line 3.*not UTF-8"):
        list(open_log(data, tmp_path))


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "log.parquet"
    broken = pa.Array.from_buffers(pa.string(), 1, [None, *pa.array([b"\xff\xfe"], pa.binary()).buffers()[1:]])
    pq.write_table(pa.table({"a": broken, "click": [1]}), path)
    with pytest.raises(DataError, match="Parquet"):
        list(open_log(DataConfig(path=str(path), labels=("click",), slots=("a",)), tmp_path))
