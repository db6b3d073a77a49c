"""The first estimate of each job's start is kept, so that it can be seen how many held."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("scheduling", "0014_loop_record")]

    operations = [
        migrations.AddField(model_name="job", name="start_by_at", field=models.DateTimeField(null=True)),
    ]
