"""Configuration of the delivery app."""

from django.apps import AppConfig


class DeliveryConfig(AppConfig):
    name = "delivery"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the webhook outbox to its task, and the receivers of provider webhooks."""
        from audiences import webhook_outbox
        from delivery import tasks
        from delivery.inbound import esp_webhooks

        webhook_outbox.nudge_dispatcher = tasks.enqueue_webhooks
        esp_webhooks.connect_signals()
