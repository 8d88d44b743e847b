"""Which device a process computes on: IRIS_DEVICE."""

from irisdrs.readout.backend import Processor
from irisdrs.readout.cuda.backend import CudaBackend, Report
from irisdrs.readout.cuda.compilation import COMPILES, SIMULATED, cuda
from irisdrs.readout.cuda.device import Device

#: What can be asked for: the first CUDA device if there is one, none, or a certain one.
DEVICES = r"auto|cpu|cuda(:\d+)?"


class NoDevice(Exception):
    """There is no such device, or it cannot be used; the message says why."""


def backend_for(
    wanted: str, processor: Processor, report: Report, limit_bytes: int | None = None
) -> CudaBackend | Processor:
    """The backend that is asked for; the processor if that cannot be had.

    A frame has the same bytes wherever it is computed, so that a machine that has lost its device goes on, more slowly.

    Parameters
    ----------
    wanted : str
        One of `DEVICES`. `auto` says nothing where there is no device.
    processor : Processor
    report : callable (str)
        Is told why a device that was asked for is not used.
    limit_bytes : int, optional
        Memory of the device to be taken at most.
    """
    if wanted == "cpu":
        return processor
    try:
        if wanted == "auto" and SIMULATED:
            raise NoDevice("simulated devices are for tests")
        return CudaBackend(found_device(int(wanted.partition(":")[2] or 0), limit_bytes), processor, report)
    except NoDevice as problem:
        if wanted != "auto":
            report(f"IRIS_DEVICE is {wanted}, but {problem}. The processor computes instead: the same frames, later.")
        return processor


def found_device(number: int, limit_bytes: int | None = None) -> Device:
    """A device of this machine.

    Raises
    ------
    NoDevice
        If it is not there, or cannot be used.
    """
    if not (COMPILES or SIMULATED):
        raise NoDevice("numba-cuda is not installed (pip install 'numba-cuda[cu12]')")
    try:
        there = len(cuda.gpus)
        if number < there:
            return Device(number, limit_bytes)
    except Exception as problem:  # drivers that are missing, too old or broken fail in many ways
        said = " ".join(str(problem).split())
        raise NoDevice(f"the CUDA driver cannot be used ({type(problem).__name__}: {said})") from problem
    raise NoDevice(f"this machine has {there} CUDA device{'s' if there != 1 else ''}, numbered from 0")
