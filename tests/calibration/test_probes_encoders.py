"""Models that do not generate: parameter counts as published, and configs of the hub recognised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sim.errors import ProfileError

torch = pytest.importorskip("torch")

from calibration.probes.batch import built, inputs, make_pass, said  # noqa: E402
from calibration.probes.shapes import SHAPES, EncoderShape, ResnetShape, VitShape, recognised  # noqa: E402

PUBLISHED = {
    "minilm-l6": 22_713_216,  # sentence-transformers/all-MiniLM-L6-v2, safetensors header less its position ids
    "bert-base": 109_482_240,  # google-bert/bert-base-uncased as BertModel
    "bert-large": 335_141_888,  # google-bert/bert-large-uncased as BertModel
    "bge-reranker-v2-m3": 567_755_777,  # BAAI/bge-reranker-v2-m3, safetensors parameters
    "vit-b-16": 86_567_656,  # torchvision.models.vit_b_16
    "vit-l-16": 304_326_632,  # torchvision.models.vit_l_16
    "resnet-50": 25_557_032,  # torchvision.models.resnet50
    "resnet-101": 44_549_160,  # torchvision.models.resnet101
    "resnet-152": 60_192_808,  # torchvision.models.resnet152
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_the_published_number_of_parameters(name: str) -> None:
    assert sum(p.numel() for p in built(SHAPES[name]).parameters()) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("shape", "size", "answer"),
    [
        (EncoderShape("e", 2, 32, 4, 64, 100, 64, 2), (16,), (3, 32)),
        (EncoderShape("r", 2, 32, 4, 64, 100, 64, 1, labels=1), (16,), (3, 1)),
        (VitShape("v", 2, 32, 4, 64, patch=8, image=32, classes=7), (3, 32, 32), (3, 7)),
        (ResnetShape("n", (1, 1, 1, 1), width=8, classes=5), (3, 64, 64), (3, 5)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pass_gives_one_finite_answer_for_each_input(shape: Any, size: Any, answer: Any, dtype: str) -> None:
    torch.manual_seed(0)
    subject = make_pass(shape, size, getattr(torch, dtype), "cpu")
    found = subject.step(3)
    assert tuple(found.shape) == answer
    assert bool(found.float().isfinite().all())
    assert float(found.float().std()) > 0.0 or answer[1] == 1


def test_attention_of_an_encoder_looks_both_ways() -> None:
    torch.manual_seed(0)
    subject = make_pass(EncoderShape("e", 1, 32, 4, 64, 100, 64, 2), (8,), torch.float32, "cpu")
    ids = torch.randint(100, (1, 8))
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % 100
    with torch.inference_mode():
        # the pooled vector is of the first token; the last one changes it
        assert not torch.equal(subject.module(ids), subject.module(other))


def config(folder: Path, **content: object) -> str:
    (folder / "config.json").write_text(json.dumps(content))
    return str(folder / "config.json")


def test_configs_of_the_hub_are_recognised(tmp_path: Path) -> None:
    bert = config(
        tmp_path, model_type="xlm-roberta", architectures=["XLMRobertaForSequenceClassification"], hidden_size=1024,
        num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, vocab_size=250002,
        max_position_embeddings=8194, type_vocab_size=1, id2label={"0": "LABEL_0"},
    )  # fmt: skip
    found = recognised(bert)
    assert found is not None
    assert sum(p.numel() for p in built(found).parameters()) == PUBLISHED["bge-reranker-v2-m3"]
    vit = config(
        tmp_path, model_type="vit", architectures=["ViTForImageClassification"], hidden_size=768, num_hidden_layers=12,
        num_attention_heads=12, intermediate_size=3072, patch_size=16, image_size=224,
        id2label={str(i): str(i) for i in range(1000)},
    )  # fmt: skip
    found = recognised(vit)
    assert found is not None
    assert sum(p.numel() for p in built(found).parameters()) == PUBLISHED["vit-b-16"]
    resnet = config(
        tmp_path, model_type="resnet", architectures=["ResNetForImageClassification"], embedding_size=64,
        hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3], layer_type="bottleneck",
        id2label={str(i): str(i) for i in range(1000)},
    )  # fmt: skip
    found = recognised(resnet)
    assert found is not None
    assert found.name == tmp_path.name
    assert sum(p.numel() for p in built(found).parameters()) == PUBLISHED["resnet-50"]


def test_a_config_of_a_decoder_is_left_to_the_catalog(tmp_path: Path) -> None:
    assert recognised(config(tmp_path, model_type="llama", hidden_size=64)) is None
    assert recognised("llama-3.1-8b") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "bert", "num_hidden_layers": 2}, "hidden_size: must be a whole number"),
        ({"model_type": "vit", "num_hidden_layers": 2, "hidden_size": 30, "num_attention_heads": 4}, "does not divide"),
        ({"model_type": "resnet", "layer_type": "basic"}, "only bottleneck networks"),
        ({"model_type": "resnet", "depths": [3, 4]}, "depths: must be four"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused_in_one_line(
    tmp_path: Path, content: dict[str, object], message: str
) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        recognised(config(tmp_path, **content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("bert-base", None, "128 tokens"),
        ("bert-base", "384 tokens", "384 tokens"),
        ("bert-base", "1 token", "1 tokens"),
        ("vit-b-16", None, "3x224x224"),
        ("resnet-50", "3x160x192", "3x160x192"),
    ],
)
def test_the_size_of_an_input_is_read_as_people_write_it(name: str, text: str | None, expected: str) -> None:
    assert said(inputs(SHAPES[name], text)) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [("bert-base", "513 tokens"), ("bert-base", "3x224x224"), ("vit-b-16", "3x256x256"), ("resnet-50", "224"),
     ("resnet-50", "3x8x8")],
)  # fmt: skip
def test_an_input_that_the_model_cannot_take_is_refused(name: str, text: str) -> None:
    with pytest.raises(ProfileError, match="--input"):
        inputs(SHAPES[name], text)
