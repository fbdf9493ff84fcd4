"""Sample processor, memory, disk, network and GPUs while a run is written, into ``series/system.jsonl``.

``thread.py`` has the thread that samples. ``metrics.py`` reads the metrics of the process tree and of the machine with
psutil, ``cgroup.py`` the limits of the control group, and ``gpus.py`` the GPUs with nvidia-ml-py (NVML).
"""

from __future__ import annotations

from notata.run.monitor.thread import SYSTEM, Monitor, interval_of

__all__ = ["SYSTEM", "Monitor", "interval_of"]
