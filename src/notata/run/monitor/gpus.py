"""Read NVIDIA GPUs with NVML, through the module `pynvml` of the package nvidia-ml-py.

References:
    NVML API reference, https://docs.nvidia.com/deploy/nvml-api/. CUDA C++ programming guide, environment variables
    (``CUDA_VISIBLE_DEVICES``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

__all__ = ["gpu_probes"]

Values: TypeAlias = Mapping[str, float | None]
Probe: TypeAlias = Callable[[], Values]

_ABSENT: Final = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded")  # there is no NVIDIA GPU


def gpu_probes(nvml: Any, visible: str | None = None) -> dict[str, Probe]:
    """Initialize NVML, and return functions that read the GPUs, by the name of the metric; none without a GPU.

    ``gpu0`` is the first GPU that CUDA programs of this process can use, ``gpu1`` the second one.

    Args:
        nvml: The module `pynvml`. If the result is not empty, call its `nvmlShutdown` later.
        visible: The value of ``CUDA_VISIBLE_DEVICES``; None if it is not set.

    Raises:
        NVMLError: NVML cannot be initialized or list the GPUs, although there is a driver.
    """
    try:
        nvml.nvmlInit()
    except _errors(nvml, *_ABSENT):
        return {}
    probes: dict[str, Probe] = {}
    try:
        for number, handle in enumerate(_handles(nvml, visible)):
            probes |= _probes_of(nvml, handle, f"gpu{number}")
    except BaseException:
        nvml.nvmlShutdown()
        raise
    if not probes:
        nvml.nvmlShutdown()
    return probes


def _probes_of(nvml: Any, handle: Any, name: str) -> dict[str, Probe]:
    parts = (("percent", _percent), ("memory", _memory), ("celsius", _celsius), ("watts", _watts))
    return {f"{name}_{part}": partial(_supported, nvml, partial(read, nvml, handle, name)) for part, read in parts}


def _errors(nvml: Any, *names: str) -> tuple[type[Exception], ...]:
    return tuple(getattr(nvml, name) for name in names)


def _handles(nvml: Any, visible: str | None) -> Iterator[Any]:
    """Return the handle of each GPU that CUDA shows to this process.

    NVML numbers GPUs by their place on the bus. CUDA does so with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``, and by default if
    all GPUs are of one kind. As in CUDA, the first invalid entry ends the list.
    """
    if visible is None:
        for index in range(nvml.nvmlDeviceGetCount()):
            yield nvml.nvmlDeviceGetHandleByIndex(index)
        return
    for entry in map(str.strip, visible.split(",")):
        try:
            if entry.isdecimal():
                handle = nvml.nvmlDeviceGetHandleByIndex(int(entry))
            elif entry.startswith(("GPU-", "MIG-")):
                handle = nvml.nvmlDeviceGetHandleByUUID(entry)
            else:
                return
        except nvml.NVMLError:
            return
        yield handle


def _supported(nvml: Any, read: Probe) -> Values:
    """Return the values, or none if the GPU does not have this metric."""
    try:
        return read()
    except _errors(nvml, "NVMLError_NotSupported"):
        return {}


def _percent(nvml: Any, handle: Any, name: str) -> Values:
    return {f"{name}_percent": nvml.nvmlDeviceGetUtilizationRates(handle).gpu}


def _memory(nvml: Any, handle: Any, name: str) -> Values:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {f"{name}_memory_bytes": memory.used, f"{name}_memory_total_bytes": memory.total}


def _celsius(nvml: Any, handle: Any, name: str) -> Values:
    # `nvmlDeviceGetTemperature` is to be removed with CUDA 14, and its successor is missing before driver 560.
    read = getattr(nvml, "nvmlDeviceGetTemperature", None) or nvml.nvmlDeviceGetTemperatureV
    return {f"{name}_celsius": read(handle, nvml.NVML_TEMPERATURE_GPU)}


def _watts(nvml: Any, handle: Any, name: str) -> Values:
    return {f"{name}_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000}  # milliwatts
