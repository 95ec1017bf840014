"""Reading traces: every format, every way in which one can be wrong, and files damaged at random."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim.errors import TraceError
from sim.workload.readers import read
from tests.paths import shared
from tests.workload.mutate import mutate

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""
MOONCAKE = "".join(
    json.dumps({"timestamp": tick * 3000, "input_length": 6000 + row, "output_length": 300, "hash_ids": [0, row]})
    + "\n"
    for tick in range(4)
    for row in range(5)
)
GENERIC = "arrival_s,prompt_tokens,output_tokens\n0.5,10,20\n1.25,30,40\n7,50,60\n"


def written(folder: Path, content: str | bytes, name: str = "trace.csv") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refused(folder: Path, content: str | bytes, name: str = "trace.csv", format: str = "auto") -> str:
    """The message that reading ``content`` ends with, less the folder."""
    path = written(folder, content, name)
    with pytest.raises(TraceError) as caught:
        read(path, format)
    return str(caught.value).replace(f"{folder}/", "")


def test_azure(tmp_path: Path):
    trace = read(written(tmp_path, AZURE))
    assert trace.format == "azure"
    np.testing.assert_allclose(trace.arrival_s, [0.0, 4.314579, 4.541877], atol=2e-6)
    assert trace.prompt_tokens.tolist() == [374, 396, 879]
    assert trace.output_tokens.tolist() == [44, 109, 55]


def test_azure_of_2024_with_time_zones(tmp_path: Path):
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 02:00:01.5+02:00,2399,6\n"
    np.testing.assert_allclose(read(written(tmp_path, text)).arrival_s, [0.0, 1.49007])


def test_mooncake_counts_milliseconds_in_ticks(tmp_path: Path):
    trace = read(written(tmp_path, MOONCAKE, "trace.jsonl"))
    assert trace.format == "mooncake"
    assert trace.arrival_s.tolist() == [0.0] * 5 + [3.0] * 5 + [6.0] * 5 + [9.0] * 5
    assert trace.tick == 3.0
    assert trace.span == 12.0
    assert trace.prompt_tokens[:2].tolist() == [6000, 6001]


def test_the_same_shape_with_chats_counts_seconds(tmp_path: Path):
    """The Qwen traces of Alibaba Cloud: Mooncake's names, but seconds."""
    lines = [{"chat_id": 1, "timestamp": at, "input_length": 9, "output_length": 8} for at in (0.0, 61.114, 61.5)]
    trace = read(written(tmp_path, "\n".join(map(json.dumps, lines)), "trace.jsonl"))
    assert trace.format == "jsonl"
    assert trace.arrival_s.tolist() == [0.0, 61.114, 61.5]
    assert trace.session is not None
    assert trace.session.tolist() == [0, 0, 0]


def test_generic_csv_is_kept_as_written(tmp_path: Path):
    trace = read(written(tmp_path, GENERIC))
    assert trace.format == "csv"
    assert trace.arrival_s.tolist() == [0.5, 1.25, 7.0]
    assert trace.tick == 0.0
    with pytest.raises(ValueError, match="read-only"):
        trace.arrival_s[0] = 1.0


def test_generic_jsonl_and_parquet_say_the_same(tmp_path: Path):
    rows = [
        {"arrival_s": 0.5, "prompt_tokens": 10, "output_tokens": 20},
        {"arrival_s": 1.25, "prompt_tokens": 30, "output_tokens": 40},
    ]
    jsonl = read(written(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n", "t.jsonl"))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    parquet = read(str(tmp_path / "t.parquet"))
    assert (jsonl.format, parquet.format) == ("jsonl", "parquet")
    for one in (jsonl, parquet):
        assert one.arrival_s.tolist() == [0.5, 1.25]
        assert one.prompt_tokens.tolist() == [10, 30]
        assert one.output_tokens.tolist() == [20, 40]


def test_a_parquet_column_of_times_is_read(tmp_path: Path):
    times = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds) for seconds in (0.0, 2.5)]
    table = pa.table({"timestamp": times, "input_tokens": [1.0, 2.0], "completion_tokens": [3, 4]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read(str(tmp_path / "t.parquet")).arrival_s.tolist() == [0.0, 2.5]


@pytest.mark.parametrize("content", [AZURE, MOONCAKE, GENERIC], ids=["azure", "mooncake", "generic"])
def test_gzip_is_told_by_its_content(tmp_path: Path, content: str):
    plain = read(written(tmp_path, content, "plain"))
    packed = read(written(tmp_path, gzip.compress(content.encode()), "packed"))
    np.testing.assert_array_equal(plain.arrival_s, packed.arrival_s)
    assert plain.format == packed.format


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("arrival_s,prompt_tokens,output_tokens", [2.0, 3.0]),
        ("timestamp,input_tokens,completion_tokens", [0.0, 1.0]),
        ("Timestamp,Request tokens,Response tokens", [0.0, 1.0]),
        ("arrived_at,num_prefill_tokens,num_decode_tokens", [0.0, 1.0]),
        ("arrival_ms,isl,osl", [0.002, 0.003]),
        ("queued_ts,input_toks,output_toks", [0.0, 1.0]),
    ],
)
def test_common_names_of_columns(tmp_path: Path, header: str, expected: list[float]):
    trace = read(written(tmp_path, f"{header}\n2,10,20\n3,30,40\n"))
    assert trace.arrival_s.tolist() == expected
    assert trace.prompt_tokens.tolist() == [10, 30]


def test_an_arrival_that_is_a_clock_reading_counts_from_the_first(tmp_path: Path):
    trace = read(written(tmp_path, "arrival_s,prompt_tokens,output_tokens\n1700000000.5,1,1\n1700000002.5,1,1\n"))
    assert trace.arrival_s.tolist() == [0.0, 2.0]


def test_semicolons_tabs_marks_and_windows_line_ends(tmp_path: Path):
    for name, content in (
        ("a", GENERIC.replace(",", ";")),
        ("b", GENERIC.replace(",", "\t")),
        ("c", "\ufeff" + GENERIC),
        ("d", GENERIC.replace("\n", "\r\n")),
        ("e", GENERIC.replace("\n", "\n\n")),
    ):
        assert read(written(tmp_path, content, name)).arrival_s.tolist() == [0.5, 1.25, 7.0], name


def test_requests_out_of_order_are_sorted_and_noted(tmp_path: Path):
    trace = read(written(tmp_path, "arrival_s,prompt_tokens,output_tokens,session\n3,30,1,b\n1,10,1,a\n2,20,1,a\n"))
    assert trace.arrival_s.tolist() == [1.0, 2.0, 3.0]
    assert trace.prompt_tokens.tolist() == [10, 20, 30]
    assert trace.session is not None
    assert trace.session.tolist() == [1, 1, 0]
    assert trace.notes == ("1 of 3 requests came before the one above them and were sorted",)


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path):
    trace = read(written(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,1e3,20.0\n"))
    assert trace.prompt_tokens.tolist() == [1000]


def test_lengths_or_arrivals_alone_are_read_where_that_is_enough(tmp_path: Path):
    path = written(tmp_path, "num_prefill_tokens,num_decode_tokens\n5,6\n7,8\n")
    assert read(path, arrivals=False).prompt_tokens.tolist() == [5, 7]
    with pytest.raises(TraceError, match="no column for arrival_s"):
        read(path)
    path = written(tmp_path, "arrival_s\n5\n6\n")
    assert read(path, lengths=False).arrival_s.tolist() == [5.0, 6.0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nan,1,1", "trace.csv:3: arrival_s: 'nan' is not a number of seconds, 0 or more"),
        ("-1,1,1", "trace.csv:3: arrival_s: '-1' is not a number of seconds, 0 or more"),
        ("inf,1,1", "trace.csv:3: arrival_s: 'inf' is not a number of seconds, 0 or more"),
        (",1,1", "trace.csv:3: arrival_s: an empty value is not a number of seconds, 0 or more"),
        (
            "2023-11-16 18:00:00,1,1",
            "trace.csv:3: arrival_s: '2023-11-16 18:00:00' is not a number of seconds, 0 or more",
        ),
        ("1,0,1", "trace.csv:3: prompt_tokens: '0' is not an integer from 1 to 10000000"),
        ("1,1.5,1", "trace.csv:3: prompt_tokens: '1.5' is not an integer from 1 to 10000000"),
        ("1,x,1", "trace.csv:3: prompt_tokens: 'x' is not an integer from 1 to 10000000"),
        ("1,1_000,1", "trace.csv:3: prompt_tokens: '1_000' is not an integer from 1 to 10000000"),
        ("1,1,1e300", "trace.csv:3: output_tokens: '1e300' is not an integer from 1 to 10000000"),
        ("1,1", "trace.csv:3: has 2 fields where the header has 3: '1,1'"),
        ("1,1,1,1", "trace.csv:3: has 4 fields where the header has 3: '1,1,1,1'"),
        ('1,"1,1', "trace.csv:3: is not CSV: unexpected end of data"),
        (
            "99999999,1,1",
            "trace.csv:3: arrival_s: '99999999' is 1e+08 s after the first request; a trace may span 31622400 s (366 days)",
        ),
    ],
)
def test_a_bad_row_is_named_by_file_line_field_and_value(tmp_path: Path, row: str, message: str):
    assert refused(tmp_path, f"arrival_s,prompt_tokens,output_tokens\n0,1,1\n{row}\n") == message


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path):
    message = refused(tmp_path, "arrival_s,promt_tokens,output_tokens\n0,1,1\n")
    assert message.startswith(
        "trace.csv:1: no column for prompt_tokens (did you mean 'prompt_tokens'?); it may be called"
    )
    assert message.endswith("found: arrival_s, promt_tokens, output_tokens")


def test_two_columns_of_one_name_are_refused(tmp_path: Path):
    message = refused(tmp_path, "arrival_s,prompt_tokens,output_tokens,Prompt Tokens\n0,1,1,2\n")
    assert message == "trace.csv:1: prompt_tokens: there are two columns of that name"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "t.jsonl:2: is not JSON: "),
        ("[1, 2]", "t.jsonl:2: '[1, 2]' is not a JSON object; there should be one a line"),
        ('{"arrival_s": 1}', "t.jsonl:2: prompt_tokens: an empty value is not an integer from 1 to 10000000"),
        (
            '{"arrival_s": 1, "prompt_tokens": true, "output_tokens": 1}',
            "t.jsonl:2: prompt_tokens: True is not an integer from 1 to 10000000",
        ),
        (
            '{"arrival_s": NaN, "prompt_tokens": 1, "output_tokens": 1}',
            "t.jsonl:2: arrival_s: nan is not a number of seconds, 0 or more",
        ),
        (
            '{"arrival_s": 1, "prompt_tokens": [1], "output_tokens": 1}',
            "t.jsonl:2: prompt_tokens: [1] is not an integer from 1 to 10000000",
        ),
        ("[" * 100_000, "t.jsonl:2: is not JSON: "),
        ('{"arrival_s": ' + "9" * 5_000 + "}", "t.jsonl:2: is not JSON: "),
    ],
)
def test_a_bad_line_of_jsonl_is_named(tmp_path: Path, line: str, message: str):
    content = '{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 1}\n' + line + "\n"
    assert refused(tmp_path, content, "t.jsonl").startswith(message)


def test_a_bad_row_of_parquet_is_named(tmp_path: Path):
    table = pa.table({"arrival_s": [0.0, None], "prompt_tokens": [1, 1], "output_tokens": [1, 1]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TraceError, match=r"t.parquet: row 2: arrival_s: an empty value is not a number of seconds"):
        read(str(tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "trace.csv: is empty"),
        (b"\n \n", "trace.csv: is empty"),
        (b"arrival_s,prompt_tokens,output_tokens\n", "trace.csv: has no requests"),
        (b"arrival_s,prompt_tokens,output_tokens\n0,1,\xff\n", "trace.csv:2: byte 0xff is not UTF-8 text"),
        (b"PAR1xxxx", "trace.csv: is not a parquet file that can be read: "),
        (gzip.compress(b"a,b\n", mtime=0)[:-6], "trace.csv: is not a whole gzip file: "),
        (b"1,2,3\n4,5,6\n", "trace.csv:1: no column for arrival_s"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, content: bytes, message: str):
    assert refused(tmp_path, content).startswith(message)


def test_a_format_that_is_not_the_files_is_refused(tmp_path: Path):
    assert "is not in mooncake format: it looks like csv" in refused(tmp_path, GENERIC, format="mooncake")
    assert "'azur' is not a trace format (did you mean 'azure'?)" in refused(tmp_path, GENERIC, format="azur")
    assert read(written(tmp_path, AZURE), "csv").format == "csv"
    assert read(written(tmp_path, AZURE), "azure").format == "azure"


def test_a_file_that_is_not_there_is_named_with_the_nearest(tmp_path: Path):
    written(tmp_path, GENERIC, "requests.csv")
    with pytest.raises(
        TraceError, match=re.escape("there is no such file, nor a trace of that name in the catalog (did you mean")
    ):
        read(str(tmp_path / "request.csv"))
    with pytest.raises(TraceError, match="is a folder"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "kind", "requests"),
    [
        ("azure_llm_2023_conv.csv.gz", "azure", 19_366),
        ("azure_llm_2023_code.csv.gz", "azure", 8_819),
        ("mooncake_conversation.jsonl.gz", "mooncake", 12_031),
    ],
)
def test_the_published_traces_are_read_whole(name: str, kind: str, requests: int):
    trace = read(str(shared("traces", name)))
    assert (trace.format, len(trace), trace.notes) == (kind, requests, ())
    assert trace.arrival_s[0] == 0.0


def check_mutated(folder: Path, seeds: range) -> tuple[int, int]:
    """Read a damaged file a seed: it is read, or a one-line TraceError names the file. How many of each."""
    pq.write_table(pa.table({"arrival_s": [0.0, 1.0], "prompt_tokens": [1, 2], "output_tokens": [1, 2]}), folder / "p")
    originals = [
        AZURE.encode(),
        MOONCAKE.encode(),
        GENERIC.encode(),
        gzip.compress(AZURE.encode()),
        (folder / "p").read_bytes(),
    ]
    good = bad = 0
    for seed in seeds:
        path = folder / f"mutated-{seed}.trace"
        path.write_bytes(mutate(originals[seed % len(originals)], seed))
        try:
            trace = read(str(path))
        except TraceError as error:
            message = str(error)
            assert message.startswith(str(path)), (seed, message)
            assert "\n" not in message, (seed, message)
            rest = message.removeprefix(str(path))
            assert re.match(r":\d+: |: row \d+: |: ", rest), (seed, message)
            bad += 1
        else:
            assert len(trace) > 0
            assert np.all(np.diff(trace.arrival_s) >= 0.0), seed
            assert trace.arrival_s[0] >= 0.0
            assert np.isfinite(trace.arrival_s).all()
            assert trace.prompt_tokens.min() >= 1
            assert trace.output_tokens.min() >= 1
            good += 1
        path.unlink()
    return good, bad


def test_damaged_files_are_read_or_refused_by_name(tmp_path: Path):
    good, bad = check_mutated(tmp_path, range(150))
    assert good > 0
    assert bad > 50


@pytest.mark.verify
def test_five_hundred_damaged_files_are_read_or_refused_by_name(tmp_path: Path):
    check_mutated(tmp_path, range(1_000, 1_500))
