"""One replica: engine settings, the batch scheduler, the replica that runs it, and the slow reference of both.

The scheduler can be stepped without a clock or a perf model, as engine test suites do:

    from sim.serving import EngineSettings, Scheduler

    scheduler = Scheduler(EngineSettings(max_num_seqs=16, max_num_batched_tokens=1024, kv_blocks=1000))
    scheduler.add(0, prompt_tokens=1500, output_tokens=8)
    step = scheduler.schedule()
    step.scheduled      # {0: 1024}: tokens each request got
    scheduler.commit()  # ids of requests that finished: []
"""

from sim.serving.scheduler import Scheduler
from sim.serving.settings import EngineSettings
from sim.serving.step import Step

__all__ = ["EngineSettings", "Scheduler", "Step"]
