"""The clock of CUDA devices: events on the stream, and runs captured as CUDA graphs."""

from __future__ import annotations

import torch

from calibration.probes.timing import Run

__all__ = ["EventClock", "captured"]


class EventClock:
    """Times runs between two CUDA events, captured as a CUDA graph if ``graphs``, so that the host's launching is not in them.

    What cannot be captured (it synchronises, say) is timed as it is launched, and ``notes`` says so once.
    """

    shortest = 2e-3

    def __init__(self, device: str, *, graphs: bool = True) -> None:
        self.notes: list[str] = []
        self._device = torch.device(device)
        self._graphs = graphs

    def prepared(self, run: Run) -> Run:
        """``run`` as a replay of its graph."""
        if not self._graphs:
            return run
        try:
            return captured(run, self._device)
        except RuntimeError as error:
            torch.cuda.synchronize(self._device)
            reason = str(error).strip().splitlines()[0]
            note = f"timed without CUDA graphs, launching included, what cannot be captured: {reason}"
            if note not in self.notes:
                self.notes.append(note)
            return run

    def sample(self, run: Run, times: int) -> float:
        """Seconds of one ``run`` on the device, the mean of ``times`` in a row."""
        with torch.cuda.device(self._device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(times):
                run()
            end.record()
            end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3 / times


def captured(run: Run, device: torch.device) -> Run:
    """The replay of ``run`` as one CUDA graph, after three runs on a side stream, as the documentation of torch.cuda.graph asks.

    :raises RuntimeError: it does something that cannot be captured.
    """
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()

    def replay() -> None:
        graph.replay()

    return replay
