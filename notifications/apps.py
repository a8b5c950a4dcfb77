"""The Django app: registers the system checks and what takes authority back. Neighbours: checks, access.revocation."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """Hermes as a Django app."""

    name = "notifications"
    verbose_name = "Notifications"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, which `serve` and `relay_sqs` run too, and what takes authority back."""
        # Imported here because models can only be imported once the app registry is ready.
        from django.contrib.auth import get_user_model
        from django.contrib.auth.signals import user_logged_out
        from django.db.models.signals import post_delete, post_save, pre_save

        from notifications import checks  # noqa: F401  registering is importing
        from notifications.access import revocation
        from notifications.models import Membership, Room

        post_delete.connect(revocation.on_membership_deleted, Membership, dispatch_uid="hermes-membership")
        pre_save.connect(revocation.on_membership_changed, Membership, dispatch_uid="hermes-membership-changed")
        pre_save.connect(revocation.on_room_changed, Room, dispatch_uid="hermes-room-changed")
        post_save.connect(revocation.on_user_saved, get_user_model(), dispatch_uid="hermes-user")
        user_logged_out.connect(revocation.on_signed_out, dispatch_uid="hermes-sign-out")
