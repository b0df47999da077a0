"""What delivery does when the process starts."""

from django.apps import AppConfig


class DeliveryConfig(AppConfig):
    name = "delivery"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Be the one that audiences ring for when there is something to tell, and that providers of mail tell."""
        from audiences import webhook_outbox
        from delivery import tasks
        from delivery.inbound import esp_webhooks

        webhook_outbox.ring = tasks.nudge_to_tell
        esp_webhooks.connect_signals()
