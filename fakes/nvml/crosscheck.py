#!/usr/bin/env python3
"""Reads the fake library with NVIDIA's own Python binding: an independent view of the C ABI.

usage: crosscheck.py path/to/libwharfage_fake_nvml.so    (WHARFAGE_FAKE_GPUS names the folder)

Exit 0 when every GPU was read, 1 when a call failed, 64 on bad usage, 69 without the binding.
"""

import ctypes
import os
import sys

try:
    import pynvml
except ImportError:
    print("nvidia-ml-py is missing; run: python3 -m pip install nvidia-ml-py==13.615.71", file=sys.stderr)
    sys.exit(69)


def main() -> int:
    if len(sys.argv) != 2 or not os.path.isfile(sys.argv[1]):
        print(__doc__, file=sys.stderr)
        return 64
    if "WHARFAGE_FAKE_GPUS" not in os.environ:
        print("WHARFAGE_FAKE_GPUS must name the fake GPU folder", file=sys.stderr)
        return 64
    # The binding opens the library by its usual name, so it is handed over already open.
    pynvml.nvmlLib = ctypes.CDLL(os.path.abspath(sys.argv[1]))
    try:
        pynvml.nvmlInit()
        show()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        print(f"a call failed: {error}", file=sys.stderr)
        return 1
    return 0


def show() -> None:
    print(f"driver {pynvml.nvmlSystemGetDriverVersion()}, nvml {pynvml.nvmlSystemGetNVMLVersion()}")
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu, version=pynvml.nvmlMemory_v2)
        place = pynvml.nvmlDeviceGetPciInfo(gpu).busId
        print(f"{index} {pynvml.nvmlDeviceGetName(gpu)} {pynvml.nvmlDeviceGetUUID(gpu)} {place}")
        print(f"  memory MiB: total {memory.total >> 20} reserved {memory.reserved >> 20}"
              f" used {memory.used >> 20} free {memory.free >> 20}")
        print(f"  utilization: {told(utilization, gpu)},"
              f" {pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)} C,"
              f" {pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000} W")
        show_health(gpu)
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu):
            print(f"  process {process.pid}: {process.usedGpuMemory >> 20} MiB")


def utilization(gpu) -> str:
    busy = pynvml.nvmlDeviceGetUtilizationRates(gpu)
    return f"gpu {busy.gpu} % memory {busy.memory} %"


def told(ask, *arguments) -> str:
    """What a call says, or that it is not supported."""
    try:
        return str(ask(*arguments))
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
        return "unsupported"


def show_health(gpu) -> None:
    print(f"  remapped rows: {told(pynvml.nvmlDeviceGetRemappedRows, gpu)},"
          f" retired pages: {told(pynvml.nvmlDeviceGetRetiredPages, gpu, 1)},"
          f" ECC and MIG mode: {told(pynvml.nvmlDeviceGetEccMode, gpu)}"
          f" {told(pynvml.nvmlDeviceGetMigMode, gpu)}")
    print(f"  nvlink 0: {told(pynvml.nvmlDeviceGetNvLinkState, gpu, 0)},"
          f" replays {told(pynvml.nvmlDeviceGetNvLinkErrorCounter, gpu, 0, 0)}")
    fabric = pynvml.c_nvmlGpuFabricInfo_v3_t()
    print(f"  fabric: {told(pynvml.nvmlDeviceGetGpuFabricInfoV, gpu, ctypes.byref(fabric))}"
          f" state {fabric.state}")
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except (pynvml.NVMLError_NotFound, pynvml.NVMLError_NotSupported):
            break
        print(f"  part {pynvml.nvmlDeviceGetUUID(part)} {pynvml.nvmlDeviceGetName(part)},"
              f" {pynvml.nvmlDeviceGetMemoryInfo(part).total >> 20} MiB,"
              f" instance {pynvml.nvmlDeviceGetGpuInstanceId(part)}")
    if pynvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice:
        samples = [pynvml.nvmlGpmSampleAlloc() for _ in range(2)]
        for sample in samples:
            pynvml.nvmlGpmSampleGet(gpu, sample)
        asked = pynvml.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, 1
        asked.sample1, asked.sample2 = samples
        asked.metrics[0].metricId = pynvml.NVML_GPM_METRIC_SM_UTIL
        pynvml.nvmlGpmMetricsGet(asked)
        print(f"  multiprocessors busy: {asked.metrics[0].value} %")
        for sample in samples:
            pynvml.nvmlGpmSampleFree(sample)


sys.exit(main())
