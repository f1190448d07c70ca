# Two images from one file: `--target api` (no torch) and `--target worker` (torch). docs/operations.md tells how to run them.
ARG PYTHON=3.11
ARG DEBIAN=bookworm

FROM python:${PYTHON}-slim-${DEBIAN} AS system
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/cpd/bin:$PATH \
    CPD_DATA_DIR=/var/lib/cpd \
    CPD_SCRATCH_DIR=/var/tmp/cpd
# Both images run as the same user, since they share the artifact volume; a new volume takes the folder's owner.
RUN groupadd --gid 10001 cpd \
 && useradd --uid 10001 --gid cpd --no-create-home --home-dir /var/lib/cpd --shell /usr/sbin/nologin cpd \
 && install --directory --owner=cpd --group=cpd /var/lib/cpd /var/tmp/cpd /var/cache/cpd
WORKDIR /opt/cpd

FROM system AS build-api
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/cpd
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY api api
COPY worker worker
COPY cpd_engine cpd_engine
COPY migrations migrations
RUN pip install --constraint constraints.txt ".[s3]"

FROM build-api AS build-worker
# CPU by default; for GPUs e.g. --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# --no-deps: that index carries torch alone in the pinned version; the next line brings what it needs, CUDA's libraries included.
RUN pip install --constraint constraints.txt --no-deps --index-url "${TORCH_INDEX}" torch
RUN pip install --constraint constraints.txt ".[engine,s3]"

FROM system AS api
COPY --from=build-api /opt/cpd /opt/cpd
USER cpd
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
CMD ["cpd", "serve", "--no-worker", "--host", "0.0.0.0", "--port", "8000"]

FROM system AS worker
# For CPD_CODE_EXECUTION=bubblewrap.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build-worker /opt/cpd /opt/cpd
USER cpd
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=4 CMD ["cpd", "probe"]
STOPSIGNAL SIGTERM
CMD ["cpd", "worker"]
