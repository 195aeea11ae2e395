"""Faults of a CUDA device: those that end a process, and want of memory. Needs no torch."""

from typing import Final

_STICKY: Final = (
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "device-side assert triggered",
    "hardware stack error",
    "invalid program counter",
    "misaligned address",
    "operation not supported on global/shared address space",
    "the launch timed out and was terminated",
    "uncorrectable ECC error encountered",
    "unspecified launch failure",
)
"""Texts of CUDA errors that "leave the process in an inconsistent state" (CUDA Runtime API, "Data
types used by CUDA Runtime", ``cudaError``); and of ECC errors, which may have damaged weights."""

_OUT_OF_MEMORY: Final = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "[CUDA]: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Texts for want of memory: of torch's allocator, and of what allocates beside it (the driver for
modules and graphs, Triton, cuBLAS, cuDNN)."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return True if less work at once may succeed."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return any(fault in str(error) for fault in _OUT_OF_MEMORY)


def is_device_lost(error: RuntimeError) -> bool:
    """Return True for what torch raises once every further call would fail.

    torch puts "CUDA error: " in front of the runtime's text. Other errors with that prefix, such as
    those of a failed allocation or graph capture, pass.
    """
    text = str(error)
    return text.startswith("CUDA error: ") and any(fault in text for fault in _STICKY)
