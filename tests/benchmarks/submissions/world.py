"""Makes the database that submissions are measured on: 64 machines with 8 GPUs each, a team, and a token, printed."""

# ruff: noqa: E402 - Django must be set up before the rest is imported
import django

django.setup()

from django.core.management import call_command

from portal.kernel import clock
from scheduling import observed
from scheduling.nodes.driver import GpuInfo, Inventory
from scheduling.nodes.exchange import Report
from tenants.models import Member, Role, Team, User
from tenants.tokens import create_token

NODES, CARDS = 64, 8


def main() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    for node in range(NODES):
        cards = tuple(
            GpuInfo(uuid=f"SIM-{node}-{card}", index=card, model="Simulated GPU", memory_mib=81_920, simulated=True)
            for card in range(CARDS)
        )
        inventory = Inventory(cpu_millis=64_000, memory_mib=512 * 1024, gpus=cards, boot_id="one", driver="simulated")
        report = Report(node=f"n{node}", boot_id="one", inventory=inventory)
        observed.take_report(report, now=clock.now())
    person = User.objects.create_user(username="bench")
    Member.objects.create(team=Team.objects.create(slug="bench", name="Bench"), user=person, role=Role.OWNER)
    print(create_token(user=person, name="bench", now=clock.now())[1])


if __name__ == "__main__":
    main()
