"""A second reading of the catalog: figures typed here from the publishers' own pages, not from the tables."""

from __future__ import annotations

import pytest

from sim import catalog

# (name, memory GiB, memory bandwidth TB/s, dense 16-bit TFLOP/s, dense fp8 TFLOP/s or None, watts)
GPUS = [
    ("h100-sxm", 80, 3.35, 989, 1979, 700),  # H100 datasheet: 1,979 and 3,958 with sparsity, halved
    ("h100-nvl", 94, 3.9, 835, 1671, 400),  # H100 datasheet, NVL column
    ("h200-sxm", 141, 4.8, 989, 1979, 700),  # H200 datasheet
    ("a100-sxm", 80, 2.039, 312, None, 400),  # A100 datasheet
    ("a100-sxm-40gb", 40, 1.555, 312, None, 400),  # A100 datasheet, first edition
    ("l4", 24, 0.3, 121, 242, 72),  # L4 datasheet: 242 and 485 with sparsity
    ("l40s", 48, 0.864, 362, 733, 350),  # L40S datasheet
    ("t4", 16, 0.32, 65, None, 70),  # T4 datasheet, fp16
    ("v100-sxm", 16, 0.9, 125, None, 300),  # V100 datasheet, fp16
    ("a10", 24, 0.6, 125, None, 150),  # A10 datasheet
    ("b200-sxm", 180, 7.7, 2250, 4500, 1000),  # DGX B200 datasheet: 1,440 GB, 62 TB/s, 72 PFLOP/s sparse fp8, all of 8
    ("mi300x", 192, 5.3, 1307, 2615, 750),  # MI300X data sheet
    ("mi325x", 256, 6.0, 1307, 2615, 1000),  # MI325X data sheet
    ("mi355x", 288, 8.0, 2517, 5033, 1400),  # MI355X data sheet: 2.5 and 5 PFLOP/s
]


@pytest.mark.parametrize(("name", "memory", "bandwidth", "bf16", "fp8", "watts"), GPUS)
def test_gpu_is_what_its_datasheet_says(
    name: str, memory: float, bandwidth: float, bf16: float, fp8: float | None, watts: float
) -> None:
    gpu = catalog.gpu(name)
    assert gpu.memory == memory * 2**30
    assert gpu.memory_bandwidth == pytest.approx(bandwidth * 1e12, rel=0.01)
    assert gpu.bf16_flops == pytest.approx(bf16 * 1e12, rel=0.01)
    assert gpu.fp8_flops == (None if fp8 is None else pytest.approx(fp8 * 1e12, rel=0.01))
    assert gpu.tdp_watts == watts


# NVLink and Infinity Fabric as advertised count both directions: 300, 600, 900 and 1,800 GB/s; 7 x 128 GB/s.
@pytest.mark.parametrize(
    ("name", "both_ways"),
    [("v100-sxm", 300), ("a100-sxm", 600), ("h100-sxm", 900), ("h200-sxm", 900), ("b200-sxm", 1800), ("mi300x", 896)],
)
def test_gpu_links_are_half_of_what_is_advertised_for_both_directions(name: str, both_ways: float) -> None:
    assert catalog.gpu(name).nvlink_bandwidth == both_ways / 2 * 1e9


@pytest.mark.parametrize("name", ["l4", "l40s", "t4", "a10g", "rtx-pro-6000", "h100-pcie"])
def test_gpu_without_nvlink_says_zero(name: str) -> None:
    assert catalog.gpu(name).nvlink_bandwidth == 0


# 2 x layers x kv_heads x head_dim x 2 bytes by hand from the model cards; MLA: layers x (512 + 64) x 2 bytes.
KV_BYTES = [
    ("llama-3.1-8b", 131_072),
    ("llama-3.1-70b", 327_680),
    ("llama-3.3-70b", 327_680),
    ("llama-3.1-405b", 516_096),
    ("llama-2-7b", 524_288),
    ("mixtral-8x7b", 131_072),
    ("qwen2.5-7b", 57_344),
    ("qwen3-32b", 262_144),
    ("qwen3-235b-a22b", 192_512),
    ("gpt-oss-120b", 73_728),
    ("deepseek-v2-lite", 27 * 576 * 2),
    ("deepseek-v3", 61 * 576 * 2),  # DeepSeek-V3 is quoted at 70.3 kB a token
    ("deepseek-r1", 61 * 576 * 2),
    ("kimi-k2", 61 * 576 * 2),
]


@pytest.mark.parametrize(("name", "expected"), KV_BYTES)
def test_kv_bytes_a_token(name: str, expected: int) -> None:
    assert catalog.model(name).kv_bytes_per_token() == expected
    assert catalog.model(name).kv_bytes_per_token("fp8") == expected // 2


# Billions, as stated by the model card, the paper, or the hub's count of the checkpoint's tensors.
PARAMETERS = [
    ("llama-2-7b", 6.74),
    ("llama-2-13b", 13.02),
    ("llama-2-70b", 68.98),
    ("llama-3.1-8b", 8.03),
    ("llama-3.1-70b", 70.6),
    ("llama-3.1-405b", 405.9),
    ("llama-3.2-1b", 1.23),
    ("llama-3.2-3b", 3.21),
    ("llama-3.3-70b", 70.6),
    ("llama-4-maverick", 402),
    ("mistral-7b", 7.25),
    ("mistral-nemo-12b", 12.2),
    ("mistral-small-24b", 23.6),
    ("mistral-large-123b", 123),
    ("mixtral-8x7b", 46.7),
    ("mixtral-8x22b", 141),
    ("qwen2.5-0.5b", 0.494),
    ("qwen2.5-1.5b", 1.54),
    ("qwen2.5-7b", 7.61),
    ("qwen2.5-14b", 14.7),
    ("qwen2.5-32b", 32.8),
    ("qwen2.5-72b", 72.7),
    ("qwen3-4b", 4.02),
    ("qwen3-8b", 8.19),
    ("qwen3-14b", 14.8),
    ("qwen3-32b", 32.8),
    ("qwen3-30b-a3b", 30.5),
    ("qwen3-235b-a22b", 235),
    ("qwen3-coder-480b-a35b", 480),
    ("deepseek-v2-lite", 15.7),
    ("deepseek-v3", 671),  # without the multi-token-prediction module (arXiv 2412.19437)
    ("deepseek-r1", 671),
    ("kimi-k2", 1026),
    ("gpt-oss-20b", 20.91),  # arXiv 2508.10925, table 1
    ("gpt-oss-120b", 116.83),
    ("gemma-2-9b", 9.24),
    ("gemma-2-27b", 27.2),
    ("gemma-3-4b", 0.675 + 3.209),  # arXiv 2503.19786, table 1, without the vision encoder
    ("gemma-3-12b", 1.012 + 10.759),
    ("gemma-3-27b", 1.416 + 25.600),
    ("phi-3-mini", 3.82),
    ("phi-4", 14.7),
    ("yi-34b", 34.4),
    ("minimax-m2.5", 229),
    ("glm-4.5", 355),
    ("glm-4.5-air", 106),
    ("glm-5", 744),
    ("opt-125m", 0.125),
    ("opt-13b", 12.85),
    ("gpt2", 0.124),
]


@pytest.mark.parametrize(("name", "billions"), PARAMETERS)
def test_parameters_follow_from_the_shape_within_one_per_cent_of_the_published_count(
    name: str, billions: float
) -> None:
    assert catalog.model(name).parameters() == pytest.approx(billions * 1e9, rel=0.01)


# (name, billions, whether the publisher counts the input embedding). Publishers round these to two digits, hence 3 %.
ACTIVE = [
    ("mixtral-8x7b", 12.9, True),  # arXiv 2401.04088
    ("mixtral-8x22b", 39.0, True),
    ("llama-4-maverick", 17.0, True),
    ("qwen3-30b-a3b", 3.3, True),
    ("qwen3-235b-a22b", 22.0, True),
    ("qwen3-coder-480b-a35b", 35.0, True),
    ("gpt-oss-20b", 3.61, False),  # arXiv 2508.10925: "unembedding parameters are counted, embeddings are not"
    ("gpt-oss-120b", 5.13, False),
    ("deepseek-v3", 37.0, False),
    ("deepseek-v2-lite", 2.4, False),
    ("kimi-k2", 32.0, False),
    ("glm-4.5", 32.0, False),
    ("glm-5", 40.0, False),
]


@pytest.mark.parametrize(("name", "billions", "embedding"), ACTIVE)
def test_active_parameters_of_a_mixture(name: str, billions: float, embedding: bool) -> None:
    active = catalog.model(name).active_parameters(embedding=embedding)
    assert active == pytest.approx(billions * 1e9, rel=0.01 if billions in (12.9, 3.61, 5.13) else 0.03)


def test_a_dense_model_uses_all_its_parameters() -> None:
    llama = catalog.model("llama-3.1-8b")
    assert llama.active_parameters() == llama.parameters()


# Sizes of the checkpoints on the hub, in GB: the sums of their safetensors files.
@pytest.mark.parametrize(
    ("name", "dtype", "gigabytes"),
    [
        ("llama-3.1-8b", "bf16", 16.06),
        ("llama-3.1-70b", "bf16", 141.1),
        ("llama-3.1-8b", "fp8", 9.08),  # neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8: embedding and head in 16 bits
        ("gpt-oss-20b", "mxfp4", 13.76),  # 12.8 GiB, arXiv 2508.10925
        ("gpt-oss-120b", "mxfp4", 65.28),  # 60.8 GiB
    ],
)
def test_weight_bytes_match_the_published_checkpoint(name: str, dtype: str, gigabytes: float) -> None:
    assert catalog.model(name).weight_bytes(dtype) == pytest.approx(gigabytes * 1e9, rel=0.01)


def test_a_windowed_layer_keeps_no_more_than_its_window() -> None:
    model = catalog.model("gpt-oss-20b")  # 24 layers, 2,048 bytes a token and layer; every other one sees 128 tokens
    assert model.kv_bytes(128) == 128 * 24 * 2048
    assert model.kv_bytes(1128) == 128 * 24 * 2048 + 1000 * 12 * 2048


# List prices as of 2026: AWS us-east-1, Azure eastus, the providers' own pages.
@pytest.mark.parametrize(
    ("name", "gpu", "gpus", "usd"),
    [
        ("aws/p5.48xlarge", "h100-sxm", 8, 55.04),
        ("aws/p4d.24xlarge", "a100-sxm-40gb", 8, 21.9576),
        ("aws/g5.xlarge", "a10g", 1, 1.006),
        ("aws/g6.xlarge", "l4", 1, 0.8048),
        ("aws/g4dn.xlarge", "t4", 1, 0.526),
        ("azure/Standard_ND96isr_H100_v5", "h100-sxm", 8, 98.32),
        ("azure/Standard_NC24ads_A100_v4", "a100-pcie", 1, 3.673),
        ("nebius/gpu-h100-sxm_8gpu-128vcpu-1600gb", "h100-sxm", 8, 23.6),
        ("oci/BM.GPU.MI300X.8", "mi300x", 8, 48.0),
    ],
)
def test_instance_price(name: str, gpu: str, gpus: int, usd: float) -> None:
    machine = catalog.instance(name)
    assert (machine.gpu, machine.gpus) == (gpu, gpus)
    assert machine.usd_per_hour == pytest.approx(usd, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "gigabytes_a_second"),
    [
        ("nvlink4", 450),
        ("nvlink5", 900),
        ("pcie5-x16", 63),
        ("infiniband-ndr", 50),
        ("efa-p5", 400),
        ("ethernet-100g", 12.5),
    ],
)
def test_link_bandwidth(name: str, gigabytes_a_second: float) -> None:
    assert catalog.link(name).bandwidth == pytest.approx(gigabytes_a_second * 1e9)
