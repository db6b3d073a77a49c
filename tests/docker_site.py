"""What one installation has on a machine when it runs on Docker, taken away even if it was killed in the middle."""

import subprocess
from pathlib import Path

from scheduling.nodes.docker import DockerDriver
from scheduling.nodes.driver import DriverError
from scheduling.nodes.engine.firewall import Firewall
from scheduling.nodes.engine.names import Names
from scheduling.nodes.gpus import SimulatedGpus


def remove_site(*, url: str | None, data: Path, site: str) -> None:
    """Its containers, networks, bridges and firewall chains. The engine may be gone already, the host's part goes still."""
    driver = DockerDriver(base_url=url, data=data, site=site, gpus=SimulatedGpus(1, site=site))
    try:
        for seen in driver.observe():
            driver.stop(seen.allocation, grace_s=0)
    except DriverError as error:
        print(f"The engine keeps what site {site} has there: {error}")
    finally:
        driver.close()
        names = Names(site)
        Firewall(names).remove()
        for link in Path("/sys/class/net").glob(f"{names.bridges}*"):
            subprocess.run(["ip", "link", "del", link.name], check=True)
