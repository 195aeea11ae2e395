"""Faults of a CUDA device, by the texts that torch gives them."""

import pytest

from sa_ray.engines.stable_audio.device_faults import is_device_lost, is_out_of_memory

HINT = "\nCUDA kernel errors might be asynchronously reported at some other API call."


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: device-side assert triggered",
        "CUDA error: unspecified launch failure",
    ],
)
def test_an_error_that_every_later_call_repeats_loses_the_device(text: str) -> None:
    assert is_device_lost(RuntimeError(text + HINT))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: operation not permitted when stream is capturing",
        "The size of tensor a (3) must match the size of tensor b (4)",
        "a prompt that says: an illegal memory access was encountered",
    ],
)
def test_an_error_that_may_pass_keeps_the_device(text: str) -> None:
    assert not is_device_lost(RuntimeError(text + HINT))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory",
        "Triton Error [CUDA]: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_whoever_ran_out_of_memory_less_at_once_may_do(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert not is_device_lost(RuntimeError(text))


def test_other_errors_are_no_want_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
