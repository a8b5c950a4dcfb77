"""The Django app: registers the system checks. Neighbours: checks, models."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """Hermes as a Django app."""

    name = "notifications"
    verbose_name = "Notifications"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, which `serve` and `relay_sqs` run too."""
        from notifications import checks  # noqa: F401  registering is importing, and it needs the app registry
