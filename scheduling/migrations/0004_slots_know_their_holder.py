"""What runs while the portal is upgraded: its slots learn who holds them, its leads what they cost."""

from django.db import migrations
from django.db.models import Sum


def note_holders(apps, schema_editor):
    allocations = apps.get_model("scheduling", "Allocation").objects.filter(released_at__isnull=True)
    slots = apps.get_model("scheduling", "Slot").objects
    for row in allocations.filter(slot__isnull=False):
        slots.filter(pk=row.slot_id).update(held_by=row.job_id)
    for lead in allocations.filter(lead=True):
        part = allocations.filter(job=lead.job_id, attempt=lead.attempt, part=lead.part)
        lead.charge = part.aggregate(units=Sum("units"))["units"] or 0
        lead.save(update_fields=["charge"])


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0003_the_whole_core")]
    operations = [migrations.RunPython(note_holders, migrations.RunPython.noop)]
