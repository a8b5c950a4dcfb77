"""URLs: what Hermes answers over HTTP. Included by hermes_site.urls at the root."""

from __future__ import annotations

from django.urls import path

from notifications import health
from notifications.access import views

urlpatterns = [
    path("notifications/token", views.token, name="hermes-token"),
    path("healthz", health.healthz, name="hermes-healthz"),
    path("readyz", health.readyz, name="hermes-readyz"),
    path("metrics", health.metrics, name="hermes-metrics"),
]
