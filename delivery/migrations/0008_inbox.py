import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# What was said in before there was an inbox is in it by when it was last said.
COME_UP = """
UPDATE delivery_conversation c
   SET inbox_at = coalesce(said.at, c.first_reply_at)
  FROM (
    SELECT conversation.id, (
        SELECT max(part.created_at) FROM delivery_conversationpart part
         WHERE part.conversation_id = conversation.id AND part.part_type = 'comment'
    ) AS at
      FROM delivery_conversation conversation
  ) AS said
 WHERE said.id = c.id AND coalesce(said.at, c.first_reply_at) IS NOT NULL
"""
IN_INBOX = models.Q(("inbox_at__isnull", False))
WORDS = django.contrib.postgres.search.SearchVector("body", config="simple")


class Migration(migrations.Migration):

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ('delivery', '0007_newest_replies'),
    ]

    operations = [
        migrations.AddField(
            model_name='conversation',
            name='inbox_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='conversation',
            name='unseen',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='conversationpart',
            name='ticket',
            field=models.UUIDField(blank=True, null=True, unique=True),
        ),
        migrations.RunSQL(COME_UP, migrations.RunSQL.noop),
        migrations.AddIndex(
            model_name='conversation',
            index=models.Index(condition=IN_INBOX, fields=['state', '-inbox_at', '-id'], name='inbox_by_state'),
        ),
        migrations.AddIndex(
            model_name='conversation',
            index=models.Index(condition=IN_INBOX, fields=['assignee', 'state', '-inbox_at', '-id'], name='inbox_of_teammate'),
        ),
        migrations.AddIndex(
            model_name='conversation',
            index=models.Index(condition=IN_INBOX, fields=['-inbox_at', '-id'], name='inbox_in_order'),
        ),
        migrations.AddIndex(
            model_name='conversation',
            index=models.Index(condition=IN_INBOX, fields=['-updated_at'], name='inbox_changed'),
        ),
        migrations.AddIndex(
            model_name='conversation',
            index=models.Index(condition=models.Q(('state', 'open'), ('unseen', True)), fields=['id'], name='inbox_unseen'),
        ),
        migrations.AddIndex(
            model_name='conversation',
            index=django.contrib.postgres.indexes.GinIndex(WORDS, condition=models.Q(('body', ''), _negated=True), name='opening_words'),
        ),
        migrations.AddConstraint(
            model_name='conversation',
            constraint=models.CheckConstraint(condition=models.Q(('first_reply_at', None), ('inbox_at__isnull', False), _connector='OR'), name='replied_is_in_inbox'),
        ),
        migrations.AddIndex(
            model_name='conversationpart',
            index=django.contrib.postgres.indexes.GinIndex(WORDS, condition=models.Q(('body', ''), _negated=True), name='part_words'),
        ),
        migrations.CreateModel(
            name='AnswerMail',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('waiting', 'Waiting'), ('sending', 'Sending'), ('uncertain', 'Uncertain'), ('sent', 'Sent'), ('failed', 'Failed'), ('skipped', 'Skipped'), ('withdrawn', 'Withdrawn')], default='waiting', max_length=16)),
                ('due_at', models.DateTimeField()),
                ('taken_at', models.DateTimeField(blank=True, null=True)),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('detail', models.TextField(blank=True, default='')),
                ('provider_id', models.CharField(blank=True, default='', max_length=255)),
                ('part', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='mail', to='delivery.conversationpart')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('status', 'waiting')), fields=['due_at', 'id'], name='answer_due'), models.Index(condition=models.Q(('status', 'sending')), fields=['taken_at'], name='answer_in_hand')],
            },
        ),
    ]
