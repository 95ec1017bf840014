"""transformers' continuous batching behind the two paths of OpenAI's API that a calibration needs.

Run inside the engine's environment: ``python transformers_server.py MODEL PORT``. Prompts are token ids, answers are streamed, a
chunk a token; EOS is ignored. The engine's own defaults for its cache cannot be used on a CPU, so these are given.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

NAME, BLOCKS, PAGE, BUDGET, SEATS = "m40", 512, 32, 512, 16


def application(folder: str) -> FastAPI:
    """The server of the model in ``folder``."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=16),
        continuous_batching_config=ContinuousBatchingConfig(
            num_blocks=BLOCKS,
            page_size=PAGE,
            max_batch_tokens=BUDGET,
            max_requests_per_batch=SEATS,
            allow_block_sharing=False,
        ),
    )
    manager.start()
    app = FastAPI()
    number = iter(range(10**9))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": NAME, "object": "model", "max_model_len": 2048}]}

    @app.post("/v1/completions")
    async def completions(request: Request) -> StreamingResponse:
        body = await request.json()
        prompt = [int(token) for token in body["prompt"]]
        wanted = int(body.get("max_tokens", 16))
        identity = f"request-{next(number)}"
        queue: asyncio.Queue[Any] = asyncio.Queue()
        manager.register_result_handler(identity, queue.put_nowait)
        await asyncio.to_thread(
            manager.add_request, prompt, request_id=identity, max_new_tokens=wanted, streaming=True, eos_token_id=-1
        )
        return StreamingResponse(answer(queue, len(prompt)), media_type="text/event-stream")

    async def answer(queue: asyncio.Queue[Any], prompt_tokens: int) -> AsyncIterator[str]:
        sent = 0
        while True:
            output = await queue.get()
            new = output.generated_tokens[sent:]
            sent += len(new)
            if new:
                text = " ".join(f"t{token}" for token in new)
                yield _event({"id": output.request_id, "choices": [{"index": 0, "text": text, "token_ids": new}]})
            if output.is_finished():
                if output.error:
                    yield _event({"error": {"message": output.error}})
                usage = {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": sent,
                    "total_tokens": prompt_tokens + sent,
                }
                yield _event({"id": output.request_id, "choices": [], "usage": usage})
                yield "data: [DONE]\n\n"
                return

    return app


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
