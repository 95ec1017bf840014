"""A small Llama with random weights and a tokenizer of numbered words, as ``vllm`` and ``transformers`` load them.

Run inside the engine's own environment: ``python model.py FOLDER``. 40 million parameters: 10 layers, hidden 512, 8 heads over 4 KV
heads, 8,000 words; bf16. The same shape as the recording in ../shared/data/truth/vllm-0.32_cpu_llama-40m.
"""

from __future__ import annotations

import sys
from pathlib import Path


def make(folder: Path) -> None:
    """Write config, weights and tokenizer into ``folder``, unless they are there."""
    if (folder / "tokenizer_config.json").is_file():
        return
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8000,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=10,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"t{number}": number for number in range(3, 8000)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir(parents=True, exist_ok=True)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
