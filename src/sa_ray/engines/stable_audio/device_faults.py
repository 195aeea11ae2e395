"""Faults of a CUDA device after which a process can only be replaced. Needs no torch."""

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


def is_device_lost(error: RuntimeError) -> bool:
    """Return True for what torch raises once every further call would fail.

    torch puts "CUDA error: " in front of the runtime's text. Other errors with that prefix, such as
    those of a failed allocation or graph capture, pass.
    """
    text = str(error)
    return text.startswith("CUDA error: ") and any(fault in text for fault in _STICKY)
