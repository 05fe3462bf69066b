"""Operations a second beside the chip's limits, and memory, of work on a GPU."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from experiments.gpu_check.machine import matrix_rate
from vidreason.markdown import escaped, table

DATASHEET = {
    # The first that fits counts: H100 is also in "H100 PCIe", and L4 in "L40S".
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
}
"""Dense bf16 operations a second in NVIDIA's data sheets, by the first name that is in a device's;
without sparsity, which doubles the figures there."""
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Chip:
    """Upper limits of a device."""

    name: str
    measured: float
    """Operations a second of a large bf16 matrix product."""
    datasheet: float | None
    """The same by the data sheet; None if the device is not known."""

    def use(self, flops: float, seconds: float) -> dict[str, float | None]:
        """Rate of some work, and the percentage of both maxima that it is (MFU)."""
        rate = flops / seconds
        return {
            "tflops_a_second": rate / 1e12,
            "percent_of_measured": 100 * rate / self.measured,
            "percent_of_datasheet": self.datasheet and 100 * rate / self.datasheet,
        }


def measure_chip(device: torch.device, side: int = 8192) -> Chip:
    """Measure the rate of bf16 matrix products of ``(side, side)``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    datasheet = next((rate for known, rate in DATASHEET.items() if known in name), None)
    return Chip(name=name, measured=matrix_rate(device, side), datasheet=datasheet)


def memory(work: Callable[[], object], device: torch.device) -> dict[str, float | None]:
    """The most memory that tensors take during ``work``, and how much of it only meanwhile, in GiB.

    What the process holds for other purposes is in the first. None on a CPU, where nobody counts.
    """
    if device.type != "cuda":
        work()
        return {"peak_gib": None, "working_gib": None}
    torch.cuda.synchronize(device)
    # Peaks are counted from what is held now, so the peak of an earlier way is none of this one.
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    return {"peak_gib": peak / _GIB, "working_gib": (peak - before) / _GIB}


def gpu_numbers(
    chip: Chip,
    flops: float,
    seconds: Mapping[str, Mapping[str, float]],
    ways: Mapping[str, Callable[[], object]],
    device: torch.device,
) -> dict[str, Any]:
    """Rates and memory of some ways of the same work.

    Args:
        chip: The device's maxima.
        flops: Operations of the work.
        seconds: Spread of each way's seconds.
        ways: The ways, of which each runs once more.
        device: Where.
    """
    return {
        "chip": asdict(chip),
        "tflop": flops / 1e12,
        "ways": {
            name: {**chip.use(flops, values["median"]), **memory(ways[name], device)}
            for name, values in seconds.items()
        },
    }


def gpu_tables(numbers: Mapping[str, Any]) -> Iterator[str]:
    """The numbers of :func:`gpu_numbers` as Markdown, with those of ``gpu_table`` if there are."""
    chip = numbers["chip"]
    datasheet = "unknown" if chip["datasheet"] is None else f"{chip['datasheet'] / 1e12:.0f}"
    yield (
        f"{escaped(chip['name'])}: {chip['measured'] / 1e12:.0f} TFLOP/s measured in bf16 matrix "
        f"products, {datasheet} by the data sheet. The work takes {numbers['tflop']:.3g} TFLOP."
    )
    yield table(
        ["Way", *_HEADER],
        ([name, *use_cells(values)] for name, values in numbers["ways"].items()),
    )
    if rows := numbers.get("table"):
        sizes = list(rows[0]["sizes"])
        yield table(
            [*sizes, "samples/s", "tokens/s", *_HEADER],
            (
                [
                    *(str(value) for value in row["sizes"].values()),
                    *(
                        # The other cells are empty: each row has as many as the header.
                        ["out of memory", *[""] * (len(_HEADER) + 1)]
                        if row["out_of_memory"]
                        else [
                            f"{row['samples_a_second']:.1f}",
                            f"{row['positions_a_second']:.0f}",
                            *use_cells(row),
                        ]
                    ),
                ]
                for row in rows
            ),
            num_left=0,
        )


_HEADER = ["TFLOP/s", "% of measured", "% of data sheet", "peak GiB", "of it working"]


def use_cells(row: Mapping[str, Any]) -> list[str]:
    """The columns of :data:`_HEADER`."""
    names = ("tflops_a_second", "percent_of_measured", "percent_of_datasheet")
    cells = [(row[name], 1) for name in names]
    cells += [(row[name], 2) for name in ("peak_gib", "working_gib")]
    return ["" if value is None else f"{value:.{digits}f}" for value, digits in cells]
