"""Rename the count of an import's records that match no customer."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("audiences", "0017_plain_help_texts")]

    operations = [migrations.RenameField(model_name="import", old_name="nobody", new_name="unmatched")]
