"""Request logs: CSV files, and the results of vllm bench serve, guidellm and aiperf, as those tools wrote them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.importers.requests import FORMATS, read_run
from sim.errors import ProfileError
from tests.paths import shared

# Excerpts of files written by vLLM 0.32.0, aiperf 0.13.0 and guidellm 0.8.1 against a server that answers with 12 tokens 5 ms apart;
# outputs shortened to 4 tokens where a list of gaps goes with them.
VLLM: dict[str, Any] = {
    "date": "20261124-205721",
    "backend": "openai",
    "model_id": "m",
    "num_prompts": 2,
    "request_rate": 20.0,
    "max_concurrency": None,
    "completed": 2,
    "input_lens": [20, 21],
    "output_lens": [4, 4],
    "ttfts": [0.042371516, 0.042362778],
    "itls": [[0.004879, 0.005128, 0.005124], [0.005574, 0.005117, 0.005153]],
    "start_times": [2370.517201757, 2370.577927498],
    "errors": ["", ""],
    "mean_ttft_ms": 42.367147,
}
AIPERF: list[dict[str, Any]] = [
    {
        "metadata": {"session_num": i, "request_start_ns": start, "benchmark_phase": phase, "was_cancelled": False},
        "metrics": {
            "time_to_first_token": {"value": 43.0 + i, "unit": "ms"},
            "request_latency": {"value": 43.0 + i + 15.5, "unit": "ms"},
            "input_sequence_length": {"value": 18, "unit": "tokens"},
            "usage_prompt_tokens": {"value": 20, "unit": "tokens"},
            "output_sequence_length": {"value": 4, "unit": "tokens"},
            "inter_chunk_latency": {"value": [5.1, 5.2, 5.2], "unit": "ms"},
        },
    }
    for i, (start, phase) in enumerate(
        [
            (1795553984207890981, "warmup"),
            (1795553984316116849, "profiling"),
            (1795553984420810239, "profiling"),
        ]
    )
]
AIPERF_SUMMARY = {
    "schema_version": "1.4",
    "aiperf_version": "0.13.0",
    "request_latency": {"unit": "ms", "avg": 60.0},
    "input_config": {
        "phases": [
            {"name": "warmup", "kind": "warmup", "type": "concurrency", "concurrency": 2},
            {"name": "profiling", "kind": "profiling", "type": "concurrency", "requests": 8, "concurrency": 2},
        ]
    },
}


def guidellm(strategy: dict[str, Any], count: int) -> dict[str, Any]:
    requests = [
        {
            "type_": "generative_request_stats",
            "request_start_time": 1795553810.04 + i,
            "request_latency": 0.1099,
            "prompt_tokens": 20,
            "output_tokens": 12,
            "time_to_first_token_ms": 52.9,
        }
        for i in range(count)
    ]
    unsent = {"request_start_time": None, "request_latency": None, "prompt_tokens": None, "output_tokens": None}
    cut = (
        {**requests[0], "request_start_time": 1795553810.54, "request_latency": None, "output_tokens": 3}
        if count
        else {}
    )
    return {
        "type_": "generative_benchmark",
        "config": {"strategy": strategy},
        "requests": {
            "successful": requests,
            "incomplete": [cut, unsent] if count else [],
            "errored": [],
            "total": None,
        },
    }


GUIDELLM = {
    "metadata": {"version": 2, "guidellm_version": "0.8.1"},
    "benchmarks": [guidellm({"type_": "concurrent", "streams": 3}, 3), guidellm({"type_": "poisson", "rate": 9.5}, 2)],
}


def write(path: Path, value: Any) -> Path:
    text = "\n".join(map(json.dumps, value)) if isinstance(value, list) else json.dumps(value)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def refused(path: Path, **asked: Any) -> str:
    with pytest.raises(ProfileError) as caught:
        read_run(path, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# vllm bench serve


def test_a_result_of_vllm_bench_serve_reads(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "r.json", VLLM))
    assert run.sent == pytest.approx([0.0, 0.060725741])
    assert run.prompt.tolist() == [20, 21]
    assert run.output.tolist() == [4, 4]
    assert np.nanmean(run.ttft) * 1e3 == pytest.approx(VLLM["mean_ttft_ms"])
    assert run.e2e[0] == pytest.approx(0.042371516 + 0.015131)
    assert run.tpot[0] == pytest.approx(0.015131 / 3)
    assert run.itl is not None
    assert run.itl == pytest.approx([gap for gaps in VLLM["itls"] for gap in gaps])
    assert run.concurrency is None
    assert run.about["rate"] == 20.0


def test_a_closed_loop_of_vllm_bench_serve_is_one(tmp_path: Path) -> None:
    assert read_run(write(tmp_path / "r.json", VLLM | {"request_rate": "inf", "max_concurrency": 8})).concurrency == 8
    assert read_run(write(tmp_path / "r.json", VLLM | {"max_concurrency": 8})).concurrency is None


def test_a_failed_request_has_no_times(tmp_path: Path) -> None:
    failed = {"errors": ["", "Traceback ..."], "ttfts": [0.04, 0.0], "itls": [[0.005] * 3, []], "output_lens": [4, 0]}
    run = read_run(write(tmp_path / "r.json", VLLM | failed))
    assert run.ok.tolist() == [True, False]
    assert np.isnan(run.ttft[1])
    assert run.token_times is not None
    assert len(run.token_times[1]) == 0


def test_chunks_of_several_tokens_have_no_token_times(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "r.json", VLLM | {"output_lens": [8, 4]}))
    assert run.token_times is None
    assert run.tpot[0] == pytest.approx(0.015131 / 7)


def test_of_appended_results_one_must_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", [VLLM, VLLM | {"date": "later", "input_lens": [30, 31]}])
    assert "holds 2 runs (0: 20261124-205721, 1: later); say which with --number" in refused(path)
    assert read_run(path, number=1).prompt.tolist() == [30, 31]
    assert "there is no number 2" in refused(path, number=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict.fromkeys(("ttfts", "itls", "input_lens"), None), "--save-result --save-detailed"),
        ({"start_times": None}, "has no start_times"),
        ({"itls": [[]]}, "are not of one length"),
        ({"ttfts": ["x", 1.0]}, "request 1: ttfts is 'x', not a number"),
        ({"input_lens": [0, 0]}, "no request has prompt tokens"),
        ({"latencies": [0.01, 0.2]}, "request 1: was answered in 0.01 s, before its first token at 0.0423715 s"),
        ({"input_lens": [20.5, 20]}, "request 1: prompt tokens: 20.5 is not a whole number"),
    ],
)
def test_what_is_wrong_with_a_result_is_said_in_a_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    result = {key: value for key, value in (VLLM | change).items() if value is not None or key not in change}
    assert message in refused(write(tmp_path / "r.json", result))


# guidellm


def test_a_benchmark_of_a_guidellm_report_reads(tmp_path: Path) -> None:
    path = write(tmp_path / "benchmarks.json", GUIDELLM)
    assert "holds 2 runs (0: concurrent 3, 1: poisson 9.5)" in refused(path)
    run = read_run(path, number=0)
    assert run.sent == pytest.approx([0.0, 0.5, 1.0, 2.0])
    assert run.ok.tolist() == [True, False, True, True]  # the second was cut off by the end of the benchmark
    assert run.ttft[0] == pytest.approx(0.0529)
    assert run.e2e[0] == pytest.approx(0.1099)
    assert run.concurrency == 3
    assert read_run(path, number=1).concurrency is None


def test_a_guidellm_report_without_requests_is_refused(tmp_path: Path) -> None:
    report = GUIDELLM | {"benchmarks": [guidellm({"type_": "synchronous"}, 0)]}
    assert "--sample-requests" in refused(write(tmp_path / "benchmarks.json", report))


# aiperf


@pytest.mark.parametrize("asked", ["profile_export.jsonl", "profile_export_aiperf.json"])
def test_records_of_aiperf_read_without_the_warm_up(tmp_path: Path, asked: str) -> None:
    write(tmp_path / "profile_export.jsonl", AIPERF)
    write(tmp_path / "profile_export_aiperf.json", AIPERF_SUMMARY)
    run = read_run(tmp_path / asked)
    assert run.sent == pytest.approx([0.0, 0.104693390], abs=1e-6)
    assert run.prompt.tolist() == [20, 20]  # as the server counted them, with the chat template
    assert run.ttft == pytest.approx([0.044, 0.045])
    assert run.tpot == pytest.approx([0.0155 / 3] * 2)
    assert run.itl == pytest.approx([5.1e-3, 5.2e-3, 5.2e-3] * 2)
    assert run.concurrency == 2


def test_a_summary_of_aiperf_alone_says_which_flag_writes_the_records(tmp_path: Path) -> None:
    assert "--export-level records" in refused(write(tmp_path / "profile_export_aiperf.json", AIPERF_SUMMARY))


def test_a_broken_line_of_aiperf_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "profile_export.jsonl", AIPERF)
    path.write_text(path.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    assert refused(path).endswith("profile_export.jsonl:3: is not JSON")


def test_errors_of_aiperf_are_failed_requests(tmp_path: Path) -> None:
    bad = {"metadata": AIPERF[1]["metadata"], "metrics": {}, "error": {"code": 500, "message": "x"}}
    run = read_run(write(tmp_path / "profile_export.jsonl", [*AIPERF, bad]))
    assert run.ok.sum() == 2
    assert len(run) == 3


# CSV


def test_a_csv_file_reads_in_the_order_of_sending_with_its_token_times(tmp_path: Path) -> None:
    path = tmp_path / "a_requests.csv"
    path.write_text(
        "id,sent_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,7.5,10,2,0.1,0.2\n1,7.0,20,1,0.3,0.3\n2,8,5,0,,\n",
        encoding="utf-8",
    )
    times = [{"token_times_s": [7.6, 7.7]}, {"token_times_s": [7.3]}, {"token_times_s": []}]
    (tmp_path / "a_token_times.json.gz").write_bytes(gzip.compress(json.dumps(times).encode()))
    run = read_run(path)
    assert run.sent == pytest.approx([0.0, 0.5, 1.0])
    assert run.prompt.tolist() == [20, 10, 5]
    assert run.ok.tolist() == [True, True, False]
    assert run.token_times is not None
    assert run.token_times[1] == pytest.approx([0.6, 0.7])
    assert run.about["origin_s"] == 7.0


def test_latency_may_be_given_by_tpot_and_in_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("arrival_s,input_tokens,output_tokens,ttft_ms,tpot_ms\n0,10,11,100,20\n", encoding="utf-8")
    assert read_run(path).e2e == pytest.approx([0.3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("sent_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n", "has a header and no rows"),
        ("sent_s,output_tokens,ttft_s,e2e_s\n0,1,1,1\n", ":1: no column prompt_tokens or input_tokens or input_toks (has: sent_s"),
        ("sent_s,prompt_tokens,output_tokens,ttft_s\n0,1,1,1\n", ":1: no column e2e_s"),
        ("sent_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,1,1,1,2\n0,1,1,-1,2\n", ":3: column ttft_s: '-1' is not a number"),
        ("sent_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,nan,1,1,2\n", ":2: column prompt_tokens: 'nan'"),
        ("hello\n", "is none of the formats"),
        ("{}", "is none of the formats"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_csv_file_is_said_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text, encoding="utf-8")
    assert message in refused(path)


def test_a_file_that_is_not_there_and_a_format_that_is_not_known_are_said(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.csv").endswith("no.csv: No such file or directory")
    assert "(did you mean 'aiperf'?)" in refused(tmp_path / "no.csv", format="aiperv")


@pytest.mark.parametrize("reader", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("text", ["[1, 2]", '{"a": 1}', "null", '"x"', "{", '[{"token_times_s": 3}]', "1,2\n3,4"])
def test_every_reader_says_in_a_line_that_a_file_is_none_of_its_own(
    tmp_path: Path, reader: Callable[[Path, int | None], Any], text: str
) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        reader(path, None)
    assert "\n" not in str(caught.value)


# recorded runs


def test_the_recording_and_its_summary_agree() -> None:
    folder = shared("truth/vllm-0.32_cpu_llama-40m")
    run = read_run(folder / "light_a_requests.csv")
    said = json.loads((folder / "light_a_summary.json").read_text(encoding="utf-8"))["summary"]
    assert len(run) == said["n"]
    assert run.ttft.mean() == pytest.approx(said["ttft_mean"], rel=1e-4)
    assert run.tpot.mean() == pytest.approx(said["tpot_mean"], rel=1e-4)
    assert run.token_times is not None
    first = np.array([times[0] for times in run.token_times])
    assert first == pytest.approx(run.sent + run.ttft, abs=1e-3)


def test_the_run_on_the_rtx_pro_6000_takes_its_arrivals_from_the_queue() -> None:
    run = read_run(shared("truth/vllm-0.19_rtxpro6000_llama-3.1-8b") / "vllm_requests.csv")
    assert len(run) == 300
    assert run.sent[1] == pytest.approx(479748.625554681 - 479748.340626232)
    assert run.ttft[0] == pytest.approx(0.16952519424)
    assert run.rate == pytest.approx(10.0, rel=0.1)
