"""Files that describe a machine for the simulated kernel: written, read again, and refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from samplecache.errors import ConfigurationError
from samplecache.kernel.machine_files import MachineProfile, simulation_options
from samplecache.service.config import ServerConfig
from samplecache.service.server import make_kernel
from samplecache.simulation.device import PROFILES, DeviceProfile
from samplecache.simulation.options import ReadaheadMode, SimulationOptions
from samplecache.simulation.throttle import ReadLimit

LEAST = '[device]\nname = "x"\nsource = "made up"\n'

FULL = MachineProfile(
    DeviceProfile(
        'a "disk" under é',
        "made up",
        servers=8,
        latency_ns=130_000,
        bandwidth_bytes_per_s=10**9,
        request_ns=9_000,
        read_limit=ReadLimit(iops=400, bytes_per_s=2_000_000, hz=300),
    ),
    fault_ns=1_400,
    submit_ns=900,
    request_ns=0,
    page_cluster=0,
    readahead=ReadaheadMode.CLUSTER,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a file may go."""
    return tmp_path / "machine.toml"


class TestRoundTrip:
    @pytest.mark.parametrize("profile", [FULL, *map(MachineProfile, PROFILES.values())], ids=lambda p: p.device.name)
    def test_what_is_written_is_read(self, profile: MachineProfile, file: Path) -> None:
        file.write_text(profile.text({"fault, a page": "1400 ns"}), encoding="utf-8")
        assert MachineProfile.read(file) == profile

    def test_a_machine_is_as_its_file_says_and_else_as_usual(self, file: Path) -> None:
        file.write_text(FULL.text(), encoding="utf-8")
        options = simulation_options(str(file), memory_bytes=1 << 20, swap_bytes=2 << 20, seed=3)
        assert options == SimulationOptions(
            device=FULL.device,
            memory_pages=256,
            swap_slots=512,
            fault_ns=1_400,
            submit_ns=900,
            request_ns=0,
            page_cluster=0,
            readahead=ReadaheadMode.CLUSTER,
            seed=3,
        )
        file.write_text(LEAST)
        options = simulation_options(str(file), memory_bytes=1 << 20, swap_bytes=2 << 20)
        assert options == SimulationOptions(device=DeviceProfile("x", "made up"), memory_pages=256, swap_slots=512)

    def test_names_of_devices_still_do(self) -> None:
        options = simulation_options("ssd-sata", memory_bytes=1 << 20, swap_bytes=1 << 20)
        assert options.device == PROFILES["ssd-sata"]

    def test_a_server_takes_one(self, file: Path) -> None:
        file.write_text(FULL.text(), encoding="utf-8")
        kernel = make_kernel(ServerConfig(kernel="simulated", device=str(file)))  # type: ignore[arg-type]
        assert FULL.device.name in kernel.probe().swap_device


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("", "device: Field required"),
            ('[device]\nname = "x"\n', "device.source"),
            (LEAST + "latency_s = 1\n", "device.latency_s"),
            (LEAST + 'latency_ns = "1"\n', "device.latency_ns"),
            (LEAST + "latency_ns = 1.5\n", "device.latency_ns"),
            (LEAST + "latency_ns = -1\n", "negative time"),
            (LEAST + "[device.read_limit]\n", "limits nothing"),
            (LEAST + "[device.read_limit]\niops = 1\nrate = 2\n", "device.read_limit.rate"),
            (LEAST + "[cpu]\nfault = 1\n", "cpu.fault"),
            (LEAST + "[cpu]\nfault_ns = -1\n", "negative CPU times"),
            (LEAST + "[kernel]\npage_cluster = 99\n", "kernel.page_cluster"),
            (LEAST + '[kernel]\nreadahead = "all"\n', "kernel.readahead"),
            (LEAST + "[extra]\n", "extra"),
            ("[device\n", "is no TOML"),
            (LEAST + "latency_ns = 1\nlatency_ns = 2\n", "is no TOML"),
            (f"deep = {'[' * 10_000}", "is no TOML"),
            (LEAST + f"latency_ns = {'9' * 5_000}\n", "is no TOML"),
            (LEAST + f"latency_ns = {10**19}\n", "device.latency_ns"),
            (LEAST + f"latency_ns = 0x{'f' * 5_000}\n", "device.latency_ns"),
            (LEAST + f"servers = {10**10}\n", "device.servers"),
            (LEAST + f"iops = {10**30}\n", "device.iops"),
            (LEAST + f"[device.read_limit]\niops = 1\nhz = {10**19}\n", "device.read_limit.hz"),
            (LEAST + f"[cpu]\nfault_ns = {10**30}\n", "cpu.fault_ns"),
        ],
    )
    def test_one_line_names_the_file_and_the_key(self, text: str, named: str, file: Path) -> None:
        file.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            simulation_options(str(file), memory_bytes=1 << 20, swap_bytes=1 << 20)
        assert str(file) in caught.value.message
        assert named in caught.value.message
        assert "\n" not in caught.value.message

    def test_a_missing_file_and_a_folder_are_told_apart(self, tmp_path: Path) -> None:
        for path, why in ((tmp_path / "none.toml", "No such file"), (tmp_path, "directory")):
            with pytest.raises(ConfigurationError, match=why):
                MachineProfile.read(path)

    def test_bytes_that_are_no_text_are_refused(self, file: Path) -> None:
        file.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigurationError, match="is no TOML"):
            MachineProfile.read(file)
