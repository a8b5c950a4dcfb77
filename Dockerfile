# One image for every process of Hermes; deploy/compose.yaml runs them on one host, docs/containers.md step by step.
# Debian 12 and its own Python: what docs/operations.md installs, and what it is tested on.
FROM debian:bookworm-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/hermes
COPY requirements.txt ./
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt
COPY manage.py ./
COPY hermes_site hermes_site
COPY notifications notifications
COPY static static
COPY templates templates
# Static files under names that browsers may keep for ever. The key is this command's alone: it signs nothing.
RUN DJANGO_SECRET_KEY=for-this-command-alone HERMES_HASHED_STATIC=true .venv/bin/python manage.py collectstatic --noinput \
    && .venv/bin/python -m compileall -q hermes_site notifications

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --user-group --uid 990 --home-dir /var/lib/hermes --create-home hermes
COPY --from=build /opt/hermes /opt/hermes
WORKDIR /opt/hermes
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 990
EXPOSE 8000
# The drain begins with it; a second one ends it at once.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/hermes/.venv/bin/python", "manage.py"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "--drain-seconds", "10"]
