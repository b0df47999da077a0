"""Of addresses that leads left in the messenger before it was noted nobody but them says so."""

from django.db import migrations

SAID = (
    "UPDATE audiences_customer c SET email_is_said = TRUE WHERE c.role = 'lead' AND c.email IS NOT NULL"
    " AND EXISTS (SELECT FROM delivery_visitor v WHERE v.customer_id = c.id)"
)


class Migration(migrations.Migration):
    dependencies = [("delivery", "0015_nightly"), ("audiences", "0013_said_addresses")]

    operations = [migrations.RunSQL(SAID, migrations.RunSQL.noop)]
