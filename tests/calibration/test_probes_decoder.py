"""The measured decoder: as many parameters as the catalog counts, and the numerics of a transformer with a KV cache."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from sim import catalog
from sim.catalog import Architecture
from sim.errors import ProfileError

torch = pytest.importorskip("torch")

from calibration.probes.attention import Cache, causal_bias, chunk_attention, decode_attention  # noqa: E402
from calibration.probes.decoder import Decoder, Experts, Rank, check, rotary  # noqa: E402

PLAIN = Architecture("plain", layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=48, vocab=61, max_model_len=64)
MIXTURE = replace(PLAIN, name="mixture", experts=8, experts_per_token=2, moe_ffn=24, shared_ffn=16, dense_layers=1)
LEARNED = replace(
    PLAIN, name="learned", kv_heads=4, gated_ffn=False, output_bias=True, qkv_bias=True, position_embeddings=64,
    tie_embeddings=True,
)  # fmt: skip
NORMED = replace(PLAIN, name="normed", qk_norm=True, norms_per_layer=4)


def measurable() -> list[str]:
    """The catalogued decoders that can be measured."""
    names = []
    for name in catalog.names("models"):
        shape = catalog.model(name)
        if not shape.is_mla and not shape.sliding_layers:
            names.append(name)
    return names


@pytest.mark.parametrize("name", measurable())
def test_it_has_the_parameters_that_the_catalog_counts(name: str) -> None:
    shape = catalog.model(name)
    assert sum(p.numel() for p in Decoder.whole(shape).parameters()) == shape.parameters()


def test_a_rank_holds_its_share_of_the_matrices_and_all_of_the_norms() -> None:
    """Llama-3.1-8B over 2 GPUs: matrices and vocabulary halved, 65 norms of 4,096 kept."""
    shape = catalog.model("llama-3.1-8b")
    norms = (2 * 32 + 1) * 4096
    rank = sum(p.numel() for p in Decoder.whole(shape, 2).parameters())
    assert rank == (shape.parameters() - norms) // 2 + norms


def test_kv_heads_are_replicated_over_more_gpus_than_there_are() -> None:
    shape = catalog.model("llama-3.1-70b")  # 8 KV heads
    assert [Rank(shape, tp).kv_heads for tp in (1, 4, 8)] == [8, 2, 1]


@pytest.mark.parametrize(
    ("name", "tp", "message"),
    [
        ("deepseek-v3", 1, "latent attention"),
        ("gemma-3-4b", 1, "sliding-window"),
        ("llama-3.1-8b", 3, "which 3 GPUs cannot share"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(name: str, tp: int, message: str) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        check(catalog.model(name), tp)
    assert "\n" not in str(caught.value)


def by_hand(query: Any, keys: Any, values: Any, past: int) -> Any:
    """Causal attention as a textbook has it: query [c, H, D], keys and values [p + c, H_kv, D]."""
    group = query.shape[1] // keys.shape[1]
    out = torch.zeros_like(query)
    for head in range(query.shape[1]):
        for i in range(query.shape[0]):
            seen = past + i + 1
            scores = keys[:seen, head // group] @ query[i, head] / query.shape[2] ** 0.5
            out[i, head] = scores.softmax(dim=0) @ values[:seen, head // group]
    return out.flatten(1)


@pytest.mark.parametrize("past", [0, 5])
def test_a_chunk_sees_what_is_cached_and_itself_up_to_each_token(past: int) -> None:
    query, cache = torch.randn(7, 4, 8), Cache.empty(past + 7, 2, 8, torch.float32, "cpu")
    found = chunk_attention(query, *cache.sequences(1), causal_bias(7, past, torch.float32, "cpu"))
    torch.testing.assert_close(found, by_hand(query, cache.keys, cache.values, past))


def test_each_decode_sees_its_own_sequence_alone() -> None:
    query, cache = torch.randn(3, 4, 8), Cache.empty(3 * 6, 2, 8, torch.float32, "cpu")
    found = decode_attention(query, *cache.sequences(3))
    for i in range(3):
        own = cache.part(6 * i, 6)
        torch.testing.assert_close(found[i : i + 1], by_hand(query[i : i + 1], own.keys, own.values, 5))


def test_writing_a_part_of_the_cache_is_writing_the_cache() -> None:
    cache = Cache.empty(10, 2, 8, torch.float32, "cpu")
    keys = torch.randn(2, 2, 8)
    cache.part(4, 6).write(torch.tensor([1, 3]), keys, keys)
    assert torch.equal(cache.keys[5], keys[0])
    assert torch.equal(cache.values[7], keys[1])


def logits(model: Decoder, caches: list[Cache], ids: Any, past: int) -> Any:
    """Logits of the last of ``ids``, which come after ``past`` cached tokens, as an engine computes them."""
    count = len(ids)
    positions = torch.arange(past, past + count)
    x = model.embed(ids, positions)
    angles = rotary(positions, model.rank.shape.head_dim, x.dtype)
    bias = causal_bias(count, past, x.dtype, "cpu")
    for layer, cache in zip((*model.dense, *model.mixtures), caches, strict=True):
        query, key, value = layer.before(x, angles)
        cache.write(positions, key, value)
        seen = cache.part(0, past + count).sequences(1)
        attended = decode_attention(query, *seen) if count == 1 else chunk_attention(query, *seen, bias)
        x = layer.feed(layer.after(x, attended))
    return model.logits(x[-1:])


@pytest.mark.parametrize("shape", [PLAIN, MIXTURE, LEARNED, NORMED], ids=lambda shape: shape.name)
def test_chunks_and_decodes_over_the_cache_give_what_the_whole_prompt_gives(shape: Architecture) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        dense = shape.layers - shape.moe_layers
        model = Decoder(Rank(shape), dense, shape.moe_layers, torch.float32, "cpu")
        ids = torch.randint(shape.vocab, (12,))

        def caches() -> list[Cache]:
            empty = (Cache.empty(12, shape.kv_heads, shape.head_dim, torch.float32, "cpu") for _ in range(shape.layers))
            return list(empty)

        whole = logits(model, caches(), ids, 0)
        kept = caches()
        for start, end in pairwise((0, 5, 10, 11, 12)):
            last = logits(model, kept, ids[start:end], start)
        torch.testing.assert_close(last, whole, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(whole, logits(model, caches(), ids.flip(0), 0), atol=1e-3)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    torch.manual_seed(1)
    query, key = torch.randn(8), torch.randn(8)

    def turned(x: Any, position: int) -> Any:
        cos, sin = rotary(torch.tensor([position]), 8, torch.float32)
        first, second = x.chunk(2)
        return torch.cat((first * cos[0, 0] - second * sin[0, 0], second * cos[0, 0] + first * sin[0, 0]))

    near, far = turned(query, 9) @ turned(key, 4), turned(query, 40) @ turned(key, 35)
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(turned(query, 0), query)


@pytest.mark.parametrize("biased", [False, True])
def test_each_token_visits_its_best_experts_and_the_shared_one(biased: bool) -> None:
    torch.manual_seed(2)
    shape = replace(MIXTURE, output_bias=biased)
    experts = Experts(shape, 1)
    with torch.inference_mode():
        for parameter in experts.parameters():
            parameter.normal_(0.0, 0.3)
        x = torch.randn(9, shape.hidden)
        expected = torch.zeros_like(x)
        for t in range(9):
            scores = experts.router(x[t]).softmax(dim=0)
            best = scores.topk(2)
            for weight, expert in zip(best.values / best.values.sum(), best.indices, strict=True):
                both = x[t] @ experts.up[expert] + (experts.up_bias[expert] if biased else 0.0)
                gate, up = both.chunk(2)
                inner = torch.nn.functional.silu(gate) * up
                expected[t] += weight * (inner @ experts.down[expert] + (experts.down_bias[expert] if biased else 0.0))
        assert experts.shared is not None
        torch.testing.assert_close(experts(x), expected + experts.shared(x), rtol=1e-4, atol=1e-4)


def test_tokens_are_drawn_with_the_probability_that_the_logits_say() -> None:
    torch.manual_seed(3)
    chances = torch.tensor([0.6, 0.3, 0.1])
    drawn = Decoder.sampled(chances.log().expand(20_000, 3))
    shares = drawn.bincount(minlength=3) / 20_000
    torch.testing.assert_close(shares, chances, atol=0.015, rtol=0.0)  # 4 standard errors
