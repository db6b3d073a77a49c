"""The machines as people see them: simulated is called simulated, and what a card does not say is unknown."""

import pytest
from django.test import Client

from portal.kernel import clock
from scheduling.nodes.driver import GpuInfo, Inventory, Sample
from scheduling.nodes.exchange import Report
from scheduling.observed import exchange
from tests.hand_node import node

__all__ = ["node"]


@pytest.fixture
def browser(people):
    client = Client()
    client.force_login(people.alice)
    return client


def test_a_simulated_gpu_is_called_simulated(browser, node):
    page = browser.get("/cluster").content.decode()
    assert page.count('<span class="tag">simulated</span>') == 2


def test_what_a_card_does_not_report_is_unknown_and_never_zero(browser, node):
    card = GpuInfo(uuid="GPU-1", index=0, model="NVIDIA H100", memory_mib=None)
    inventory = Inventory(cpu_millis=1000, memory_mib=1024, gpus=(card,), driver="docker")
    sample = Sample(gpu_uuid="GPU-1", utilization_pct=None, memory_used_mib=480, power_w=61.5, temperature_c=None)
    exchange(Report(node="local", boot_id="b", inventory=inventory, samples=(sample,)), now=clock.now())
    rows = " ".join(browser.get("/cluster/_nodes").content.decode().split())
    assert "NVIDIA H100</td>" in rows
    assert rows.count("unknown") == 3
    assert "0.47 of unknown GiB" in rows
    assert "62 W" in rows


def test_a_machine_in_trouble_says_what_is_wrong(browser, node):
    node.report(trouble="The Docker engine does not answer.")
    page = browser.get("/cluster").content.decode()
    assert "In trouble" in page
    assert "The Docker engine does not answer." in page


def test_before_any_report_the_page_says_what_will_come(people, browser):
    assert "No machine has reported yet" in browser.get("/cluster").content.decode()


def test_who_is_not_signed_in_is_sent_to_the_log_in(db):
    assert Client().get("/cluster").headers["Location"] == "/login?next=/cluster"
