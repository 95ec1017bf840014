"""Which device is measured, what it is called, and what is said when there is none."""

from __future__ import annotations

import os
import pickle
import sys
from types import SimpleNamespace

import pytest
import torch

from calibration import nvml
from calibration.device import catalogued, find
from sim import catalog
from sim.errors import ProfileError
from tests.calibration.toynvml import UUID, FakeNvml, driver

__all__ = ["driver"]
MIB = 2**20


@pytest.fixture
def gpu(driver: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """One GPU that torch, built with CUDA, can use."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: driver.cards)
    properties = SimpleNamespace(uuid=UUID.removeprefix("GPU-"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    return driver


def test_the_cpu_has_the_memory_and_the_cores_the_kernel_says() -> None:
    device = find("cpu")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < device.memory_bytes <= total
    assert 0 < device.free_bytes() <= device.memory_bytes
    assert device.versions()["torch"] == torch.__version__
    assert f"{len(os.sched_getaffinity(0))} cores" in device.host()
    assert device.card is None


def test_a_host_is_described_without_its_name() -> None:
    import socket

    assert socket.gethostname().lower() not in find("cpu").host().lower().split()


def test_rates_are_of_bf16_arithmetic_and_of_memory() -> None:
    device = find("cpu")
    rates = device.rates()
    hardware = device.hardware(rates)
    assert hardware.bf16_flops == rates["bf16_flops"] > 1e8
    assert hardware.memory_bandwidth == rates["memory_bandwidth"] > 1e8
    assert device.hardware().bf16_flops is None


def test_a_gpu_is_found_by_its_uuid_and_named_by_its_driver(gpu: FakeNvml) -> None:
    device = find("cuda")
    assert (device.kind, device.torch, device.uuid) == ("cuda", "cuda:0", UUID)
    assert (device.title, device.gpu) == ("NVIDIA H100 80GB HBM3", "h100-sxm")
    assert device.memory_bytes == 81_559 * MIB
    assert nvml.driver() == "570.86.15"


def test_a_gpu_can_be_handed_to_another_process(gpu: FakeNvml) -> None:
    device = pickle.loads(pickle.dumps(find("cuda:0")))
    assert device == find("cuda")
    assert device.card is not None
    assert device.card.power() == 350.0


def refusal(kind: str) -> str:
    with pytest.raises(ProfileError) as caught:
        find(kind)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "", "mps"])
def test_an_unknown_kind_names_the_known_ones(kind: str) -> None:
    assert f"{kind!r} is not one of cpu, cuda, cuda:N" in refusal(kind)


def test_torch_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refusal("cpu") == "torch is not installed: pip install 'twinfer[calibrate]'"


def test_torch_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert f"torch {torch.__version__} is built without CUDA" in refusal("cuda")


@pytest.mark.parametrize("error", ["LibraryNotFound", "DriverNotLoaded"])
def test_no_driver_is_said(gpu: FakeNvml, error: str) -> None:
    gpu.broken = error
    assert "there is no NVIDIA driver on this machine" in refusal("cuda")


def test_a_driver_that_fails_otherwise_is_quoted(gpu: FakeNvml) -> None:
    gpu.broken = "Unknown"
    assert refusal("cuda") == "the NVIDIA driver does not answer: Unknown"


def test_a_missing_binding_says_what_to_install(gpu: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert refusal("cuda") == "nvidia-ml-py is not installed: pip install 'twinfer[calibrate]'"


def test_no_gpu_is_said(gpu: FakeNvml) -> None:
    gpu.cards = 0
    assert refusal("cuda") == "--device cuda: there is no GPU that torch can use"


def test_hidden_gpus_are_pointed_out(gpu: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "the driver has 1; CUDA_VISIBLE_DEVICES" in refusal("cuda")


def test_an_index_out_of_range_names_the_last(gpu: FakeNvml) -> None:
    assert refusal("cuda:1") == "--device cuda:1: there is no such GPU; only cuda:0"
    gpu.cards = 4
    assert refusal("cuda:4") == "--device cuda:4: there is no such GPU; cuda:0 to cuda:3"


# Names as nvidia-smi shows them on such cards.
@pytest.mark.parametrize(
    ("title", "mib", "name"),
    [
        ("NVIDIA H100 80GB HBM3", 81_559, "h100-sxm"),
        ("NVIDIA H100 PCIe", 81_559, "h100-pcie"),
        ("NVIDIA H100 NVL", 95_830, "h100-nvl"),
        ("NVIDIA H200", 143_771, "h200-sxm"),
        ("NVIDIA A100-SXM4-80GB", 81_920, "a100-sxm"),
        ("NVIDIA A100-SXM4-40GB", 40_960, "a100-sxm-40gb"),
        ("NVIDIA A100 80GB PCIe", 81_920, "a100-pcie"),
        ("NVIDIA A100-PCIE-40GB", 40_960, "a100-pcie-40gb"),
        ("NVIDIA A10G", 23_028, "a10g"),
        ("Tesla V100-SXM2-32GB", 32_510, "v100-sxm-32gb"),
        ("Tesla T4", 15_360, "t4"),
        ("NVIDIA GeForce RTX 4090", 24_564, "rtx-4090"),
        ("NVIDIA RTX 6000 Ada Generation", 49_140, "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97_887, "rtx-pro-6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97_887, "rtx-pro-6000-max-q"),
        ("NVIDIA GH200 480GB", 97_871, "gh200"),
    ],
)
def test_a_drivers_name_finds_the_catalogs(title: str, mib: int, name: str) -> None:
    assert catalogued(title, mib * MIB) == name


@pytest.mark.parametrize(
    ("title", "mib"),
    [
        ("NVIDIA GeForce RTX 4090 D", 24_564),  # fewer SMs than a 4090
        ("NVIDIA GeForce RTX 3090 Ti", 24_576),
        ("NVIDIA H20", 97_871),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40_192),  # a slice, though a 40 GB A100 is in the catalog
        ("NVIDIA H100 80GB HBM3", 40_000),
        ("Intel(R) Xeon(R) Processor", 81_559),
    ],
)
def test_a_card_the_catalog_does_not_have_gets_no_name(title: str, mib: int) -> None:
    assert catalogued(title, mib * MIB) is None


def test_every_nvidia_gpu_of_the_catalog_answers_to_its_own_name() -> None:
    for name in catalog.names("gpus"):
        row = catalog.gpu(name)
        if row.title.startswith("NVIDIA"):
            assert catalogued(f"NVIDIA {name.replace('-', ' ').upper()}", row.usable_memory) == name


def test_a_reading_the_card_has_not_is_none(driver: FakeNvml) -> None:
    driver.milliwatts = None
    card = nvml.card(UUID)
    assert card.energy() is None
    assert card.power() is None
    assert card.clock() == 1980.0
    assert card.power_limit() == 700.0


def test_a_lost_card_is_an_error_not_a_missing_reading(driver: FakeNvml) -> None:
    card = nvml.card(UUID)
    driver.lost = True
    with pytest.raises(ProfileError, match=r"H100.*GPU is lost"):
        card.power()


def test_an_unknown_uuid_is_named(driver: FakeNvml) -> None:
    with pytest.raises(ProfileError, match="NVML does not know GPU GPU-0000"):
        nvml.card("GPU-0000")


def test_a_driver_before_535_has_the_reasons_under_their_old_name(
    driver: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetCurrentClocksEventReasons")
    assert nvml.card(UUID).reasons() is None
    driver.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: 0x4
    assert nvml.card(UUID).reasons() == 0x4


def test_every_reason_of_the_binding_has_a_word() -> None:
    import pynvml

    bits = {
        value
        for name, value in vars(pynvml).items()
        if name.startswith(("nvmlClocksThrottleReason", "nvmlClocksEventReason")) and not name.endswith(("All", "None"))
    }
    assert bits == {*nvml.REASONS, nvml.IDLE}


def test_reasons_are_words_and_idleness_is_not_one() -> None:
    # 0x4 SwPowerCap, 0x40 HwThermalSlowdown, 0x1 GpuIdle: NVML API reference, nvmlClocksEventReasons.
    assert nvml.words(0x4 | 0x40 | 0x1) == ("software power cap", "hardware thermal slowdown")
    assert nvml.words(0x1) == ()
    assert nvml.words(1 << 20) == ("reason 0x100000",)
